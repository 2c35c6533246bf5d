"""PPO's steps on a GPU: the peak that the planner says beside the one that torch's allocator reports, and tokens a second."""

import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from preferences.cli import guarded
from scripts.random_model import write_random
from trainer.budget import sampling_budget
from trainer.embedded import EMBEDDED
from trainer.fitting import GIB, Found, Setup, Stand, fit, size_of, steps_of
from trainer.models import Quantization, default_device, load_base
from trainer.rehearsal import ENDLESS, Decode, Shape, Step
from trainer.rollout import Sampling, generate
from trainer.room import room, unquantised
from trainer.tally import Tally
from trainer.ways import Ways

SHAPE = Shape(256, 128, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCheck:
    """Run the loop on the embedded model, then PPO's steps of each model at the largest batches that fit."""

    model: tuple[str, ...] = (EMBEDDED,)
    """Models to try: add the largest that fits and that you have (`trainer plan` says which do)."""
    quantize: Quantization = "int8"
    """Quantisation of the frozen base."""
    checkpointing: bool = False
    """Gradient checkpointing."""
    value: Literal["adapter", "trunk"] = "adapter"
    """PPO's value: an adapter of its own, or a head on the policy's trunk."""
    limit: float | None = None
    """Take so many GiB of the card at most, what lies outside torch's allocator included, as on a smaller card."""
    random: Path | None = None
    """Give known models random weights, written to this folder (with room for a download), and download nothing."""
    loop: bool = True
    """Run scripts/round first."""

    @property
    def ways(self) -> Ways:
        """Options that decide the memory of a step."""
        return Ways(self.checkpointing, self.value)


def check(config: GpuCheck) -> None:
    """Print one line a step."""
    if not torch.cuda.is_available():
        print("Unmeasured: there is no GPU here that torch can use; `trainer doctor` says why.")
        return
    if config.loop:
        subprocess.run(["scripts/round"], check=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for model in config.model:
        with source(config, model) as where:
            for line in lines(config, model, where):
                print(line, flush=True)


@contextmanager
def source(config: GpuCheck, model: str) -> Iterator[str]:
    """What to load the model from; a folder with random weights is gone afterwards."""
    if config.random is None:
        yield model
        return
    config.random.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.random) as folder:
        yield str(write_random(model, Path(folder), default_device()))


def lines(config: GpuCheck, model: str, where: str) -> Iterator[str]:
    """How long loading took, and each step of PPO at the largest batch that fits: its peak, planned and measured, and its
    tokens a second."""
    space = within_limit(config.limit)
    name = f"{model} {config.quantize}"
    began = time.perf_counter()
    base = load_base(where, config.quantize)
    yield f"{name}: loaded in {time.perf_counter() - began:.0f} s, peak {torch.cuda.max_memory_allocated() / GIB:.2f} GiB"
    found = fit(Setup(unquantised(base), config.quantize, SHAPE), "ppo", config.ways, [space])[0]
    with torch.device(base.device):
        stand = Stand(base, Tally(base.model.config.vocab_size, gpu=True), SHAPE, config.ways, gpu=True)
        for step, made in steps_of("ppo", stand).items():
            yield f"{name} {step}: {measured(stand, step, made, found[step])}"
    free, total = torch.cuda.mem_get_info(base.device)
    yield f"{name}: the card holds {(total - free) / GIB:.2f} GiB at the end, {space / GIB:.2f} GiB were planned with"


def within_limit(limit: float | None) -> int:
    """Bytes to plan with; the allocator is held to them."""
    device = default_device()
    space = room(device)
    assert space is not None
    total = torch.cuda.mem_get_info(device)[1]
    if limit is not None:
        space = min(space, int(limit * GIB) - (total - space))
        torch.cuda.set_per_process_memory_fraction(space / total, torch.cuda.current_device())
    return space


def measured(stand: Stand, name: str, step: Step, found: Found) -> str:
    """The step once to warm up, and once for its peak and its time."""
    planned = found.peak.bytes / GIB
    if not found.units:
        return f"not even one row fits ({planned:.2f} GiB)"
    answers, tokens = size_of("ppo", name, stand, found.units)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        if isinstance(step, Decode):
            tokens = decoded(step, found.units)
        else:
            deque(step.phases(found.units), 0)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    peak, held = torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB
    return (
        f"{answers} answers, planned {planned:.2f} GiB, measured {peak:.2f} GiB ({planned / peak - 1:+.1%}), "
        f"{held:.2f} GiB with the allocator's blocks, {tokens / seconds:,.0f} tokens/s over {tokens} tokens"
    )


def decoded(step: Decode, answers: int) -> int:
    """All tokens of so many answers, where the planner's step has but the first and the last; how many they are."""
    prompts = [example.prompt for example in step.stand.examples(answers)]
    sampling = Sampling(max_new_tokens=step.stand.shape.response)
    samples = generate(
        step.roles, step.role, prompts, [[i] for i in range(answers)], sampling, sampling_budget(ENDLESS)
    )
    return sum(len(sample.ids) for sample in samples)


if __name__ == "__main__":
    guarded(lambda: check(tyro.cli(GpuCheck, args=sys.argv[1:])))
