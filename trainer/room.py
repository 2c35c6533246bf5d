"""Token budgets where the user gives none: on a GPU what the planner finds room for, on a CPU fixed ones."""

import copy
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainer.budget import PASSES, SAMPLED
from trainer.models import Base

if TYPE_CHECKING:
    from trainer.fitting import StageName
    from trainer.ppo import Ppo
    from trainer.rehearsal import Ways
    from trainer.reward import Reward

PROMPT, RESPONSE = 256, 128  # tokens that are planned with; budgets are in tokens, so that lengths hardly matter
ENOUGH = 64  # answers at once, beyond which sampling needs no more


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
    from trainer.rehearsal import Ways  # imports the stages themselves

    trunk = config.value == "trunk" or config.advantage == "rloo"
    ways = Ways(config.checkpointing, "trunk" if trunk else "adapter", config.rank)
    tokens = planned(base, "ppo", ways, config.max_new_tokens, config.samples, config.episodes, bytes_)
    passes = min(tokens["update"], tokens["judge"]) or PASSES
    return Budgets(config.token_budget or passes, config.sample_budget or tokens["sample"] or SAMPLED)


def sample_budget(base: Base, max_new_tokens: int, samples: int) -> int:
    """Prompt and answer tokens that can be sampled at once."""
    bytes_ = room(base.device)
    if bytes_ is None:
        return SAMPLED
    from trainer.rehearsal import Ways

    return planned(base, "sample", Ways(), max_new_tokens, samples, ENOUGH, bytes_)["sample"] or SAMPLED


def reward_budget(config: "Reward", base: Base, samples: int) -> int:
    """Tokens of a micro-batch of the reward model's training on comparisons of so many answers."""
    bytes_ = room(base.device)
    if bytes_ is None:
        return PASSES
    from trainer.rehearsal import Ways

    ways = Ways(config.checkpointing, rank=config.rank)
    return planned(base, "reward", ways, RESPONSE, samples, config.batch * samples, bytes_)["update"] or PASSES


def planned(
    base: Base, stage: "StageName", ways: "Ways", response: int, samples: int, limit: int, bytes_: int
) -> dict[str, int]:
    """Tokens of each step of a stage, 0 where not even one row fits."""
    from trainer.fitting import Setup, fit
    from trainer.rehearsal import Shape

    setup = Setup(unquantised(base), base.quantization, Shape(PROMPT, response, samples), max(limit, samples))
    found = fit(setup, stage, ways, [bytes_])[0]
    tokens = {step: size.tokens for step, size in found.items()}
    said = ", ".join(f"{step} {count}" for step, count in tokens.items())
    print(f"Planned for {bytes_ / 2**30:.1f} GiB, tokens at once: {said}.", file=sys.stderr)
    return tokens


def unquantised(base: Base) -> Any:
    """The configuration of its model before it was quantised: the planner puts the quantised layers in itself."""
    config = copy.deepcopy(base.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config
