"""Token budgets where the user gives none: on a GPU what the planner finds room for, on a CPU fixed ones."""

import copy
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainer.batches import common_length
from trainer.budget import PASSES, SAMPLED
from trainer.ensemble import members_of
from trainer.models import Base
from trainer.ways import StageName, Ways

if TYPE_CHECKING:
    from trainer.fitting import Setup
    from trainer.ppo import Ppo
    from trainer.reward import Reward

PROMPT, RESPONSE = 256, 128  # tokens that are planned with; budgets are in tokens, so that lengths hardly matter
ENOUGH = 64  # answers at once, beyond which sampling needs no more
ONE = 1  # token: a budget that every row exceeds, so that each has a pass of its own


@dataclass(frozen=True, slots=True)
class Budgets:
    """Tokens of a pass, all roles together, and prompt and answer tokens that are sampled at once."""

    passes: int
    sampled: int


def room(device: torch.device) -> int | None:
    """Bytes of the GPU that this process has or can get; None on a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device)


def available_memory() -> int:
    """Bytes of the machine: by the kernel on Linux, elsewhere all there is."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def headroom(device: torch.device) -> int:
    """Bytes that a GPU still had at this process's peak, or that the machine still has now."""
    bytes_ = room(device)
    return available_memory() if bytes_ is None else bytes_ - torch.cuda.max_memory_allocated(device)


def ppo_budgets(config: "Ppo", base: Base) -> Budgets:
    """Those that are given, or that fit beside the base, the adapters and the optimizer."""
    bytes_ = room(base.device)
    if bytes_ is None or (config.token_budget and config.sample_budget):
        return Budgets(config.token_budget or PASSES, config.sample_budget or SAMPLED)
    ways = Ways(
        config.checkpointing, config.value_in_memory(), config.rank, config.optimizer,
        members_of(config.reward) if config.reward else 1, config.top_layers,
    )  # fmt: skip
    sizes = config.max_new_tokens, config.samples, config.episodes
    tokens = planned(base, "ppo", ways, *sizes, bytes_, common=beginning(base))
    return Budgets(
        config.token_budget or min(tokens["update"], tokens["judge"]), config.sample_budget or tokens["sample"]
    )


def sample_budget(base: Base, max_new_tokens: int, samples: int) -> int:
    """Prompt and answer tokens that can be sampled at once."""
    bytes_ = room(base.device)
    if bytes_ is None:
        return SAMPLED
    return planned(base, "sample", Ways(), max_new_tokens, samples, ENOUGH, bytes_)["sample"]


def reward_budget(config: "Reward", base: Base, samples: int) -> int:
    """Tokens of a micro-batch of the reward model's training on comparisons of so many answers."""
    bytes_ = room(base.device)
    if bytes_ is None:
        return PASSES
    ways = Ways(config.checkpointing, rank=config.rank, optimizer=config.optimizer, members=config.members)
    return planned(base, "reward", ways, RESPONSE, samples, config.batch * samples, bytes_)["update"]


def planned(
    base: Base, stage: StageName, ways: Ways, response: int, samples: int, limit: int, bytes_: int, common: int = 0
) -> dict[str, int]:
    """Tokens of each step of a stage; `ONE` where not even one row fits, which is said, and tried all the same."""
    from trainer.fitting import fit  # imports the stages themselves

    setup = setup_of(base, response, samples, limit, common)
    found = fit(setup, stage, ways, [bytes_])[0]
    said = ", ".join(f"{step} {size.tokens}" for step, size in found.items())
    print(f"Planned for {bytes_ / 2**30:.1f} GiB, tokens at once: {said}.", file=sys.stderr)
    if not all(size.tokens for size in found.values()):
        print(advice(setup, stage, ways, bytes_), file=sys.stderr)
    return {step: size.tokens or ONE for step, size in found.items()}


def setup_of(base: Base, response: int, samples: int, limit: int, common: int) -> "Setup":
    """What is planned for a base that is loaded."""
    from trainer.fitting import Setup
    from trainer.rehearsal import Shape

    shape = Shape(PROMPT + common, response, samples, common)
    return Setup(unquantised(base), base.quantization, shape, max(limit, samples))


def advice(setup: "Setup", stage: StageName, ways: Ways, bytes_: int) -> str:
    """What to do where not even one row fits."""
    from trainer.fitting import way_out

    other = way_out(setup, stage, ways, bytes_)
    if other:
        remedy = f"It would with {other.flags(ways)}."
    else:
        smaller = "" if setup.quantization == "nf4" else "--quantize nf4, "
        remedy = f"No option of {stage} changes that: take {smaller}shorter texts or a smaller model."
    return f"By the plan not even one row at a time fits beside the base; it is tried all the same. {remedy}"


def beginning(base: Base) -> int:
    """Tokens that all prompts begin with because of the chat template."""
    ids = [base.prompt_ids([{"role": "user", "content": text}]) for text in ("Why?", "a")]
    return common_length(ids)


def unquantised(base: Base) -> Any:
    """The configuration of its model before it was quantised: the planner puts the quantised layers in itself."""
    config = copy.deepcopy(base.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config
