"""What one PPO iteration has in hand: a rollout, what the frozen roles say of it, and what the updates aim at."""

from dataclasses import dataclass

from torch import Tensor

from preferences.errors import RankloopError
from trainer.batches import Example
from trainer.models import Base
from trainer.ppo_math import kl_k3, masked_mean


class RatioOff(RankloopError):
    """The untrained policy does not reproduce its own rollout, so training on it would be noise."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """B answers and what the roles say of them. Tensors are (B, R), `mask` True: token; but `scores` (B,), normalised."""

    examples: list[Example]
    texts: list[str]
    finished: list[bool]
    mask: Tensor
    old: Tensor
    reference: Tensor
    values: Tensor
    scores: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """(B, R) what the updates aim at."""

    advantages: Tensor
    returns: Tensor


def check_first(ratio: float, rollout: Rollout, base: Base) -> None:
    """Raises RatioOff unless, before any update, the policy gives its own rollout the log-probabilities it was drawn with,
    and those of the reference, of which it is a copy. `ratio`: mean |ratio - 1| a token."""
    tolerance = 1e-3 if base.quantization == "none" and base.device.type == "cpu" else 2e-2
    kl = float(masked_mean(kl_k3(rollout.old, rollout.reference), rollout.mask))
    if not (ratio <= tolerance and kl <= tolerance):
        raise RatioOff(
            f"Before the first update the policy's mean |ratio - 1| is {ratio:.2g} and its KL to the reference {kl:.2g} a "
            f"token (at most {tolerance:g} is allowed), so the rollout and the training pass disagree; nothing was trained: "
            "try --quantize none, or report the model."
        )
