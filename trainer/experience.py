"""What one PPO iteration has in hand: a rollout, what the frozen roles say of it, and what the updates aim at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from preferences.errors import RankloopError
from preferences.records import Message, Prompt
from trainer.batches import Example, pad
from trainer.budget import Budget
from trainer.models import Base
from trainer.ppo_math import kl_k3, masked_mean
from trainer.roles import Roles
from trainer.rollout import Sampling, generate


class RatioOff(RankloopError):
    """The untrained policy does not reproduce its own rollout, so training on it would be noise."""


@dataclass(frozen=True, slots=True)
class Answers:
    """B answers as they were drawn; `samples` to each prompt, one after the other. Tensors are (B, R), `mask` True: token.

    `old`: their log-probabilities when drawn; `values`: of the states before the tokens, 0 if not known yet. `weights`: what
    each token counts if another engine drew it (`ppo_math.truncated_weights`), None for all the same.
    """

    prompts: list[list[Message]]
    examples: list[Example]
    texts: list[str]
    finished: list[bool]
    mask: Tensor
    old: Tensor
    values: Tensor
    weights: Tensor | None = None


def drawn_answers(
    roles: Roles, role: str, prompts: Sequence[Prompt], key: tuple[int, ...], sampling: Sampling, budget: Budget,
    head: str | None = None,
) -> Answers:  # fmt: skip
    """An answer a prompt from a role; `key` and its number decide the random numbers of each. `head`: see `generate`."""
    base = roles.base
    ids = [base.prompt_ids(prompt.messages) for prompt in prompts]
    keys = [(*key, i) for i in range(len(ids))]
    drawn = generate(roles, role, ids, keys, sampling, budget, head=head)
    old, mask = pad([sample.logprobs for sample in drawn], 0.0, base.device)
    values, _ = pad([sample.values for sample in drawn], 0.0, base.device)
    return Answers(
        prompts=[prompt.messages for prompt in prompts],
        examples=[Example(prompt, sample.ids) for prompt, sample in zip(ids, drawn, strict=True)],
        texts=[base.text(sample.ids) for sample in drawn],
        finished=[sample.finished for sample in drawn],
        mask=mask, old=old, values=values,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rollout:
    """Answers and what the roles say of them: `reference` (B, R) log-probabilities, `scores` (B,) of the whole answers.

    `spread` (B,): how far the members of the reward are apart, 0 for a single one.
    """

    answers: Answers
    reference: Tensor
    scores: Tensor
    spread: Tensor | None = None

    def with_values(self, values: Tensor) -> "Rollout":
        """The same with other values."""
        return replace(self, answers=replace(self.answers, values=values))


@dataclass(frozen=True, slots=True)
class Targets:
    """What the updates aim at: `advantages` (whitened and weighed) and `returns` (B, R).

    What came before them: the `scores` (B,), normalised and clipped, and the `plain` advantages (B, R), not yet whitened.
    """

    advantages: Tensor
    returns: Tensor
    scores: Tensor
    plain: Tensor


def tolerance(base: Base) -> float:
    """How far |ratio - 1| and KL a token may be from 0 before any update: less than PPO's clip would ever notice."""
    return 1e-3 if base.quantization == "none" and base.device.type == "cpu" else 2e-2


def check_first(ratio: float, rollout: Rollout, base: Base, copy: bool = True) -> None:
    """Raises RatioOff unless, before any update, the policy gives its own rollout the log-probabilities it was drawn with,
    and those of the reference, if it is a `copy` of that. `ratio`: mean |ratio - 1| a token."""
    allowed = tolerance(base)
    kl = float(masked_mean(kl_k3(rollout.answers.old, rollout.reference), rollout.answers.mask)) if copy else 0.0
    if not (ratio <= allowed and kl <= allowed):
        raise RatioOff(
            f"Before the first update the policy's mean |ratio - 1| is {ratio:.2g} and its KL to the reference {kl:.2g} a "
            f"token (at most {allowed:g} is allowed), so the rollout and the training pass disagree; nothing was trained: "
            "try --quantize none, or report the model."
        )
