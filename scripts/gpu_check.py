"""PPO's steps on a GPU: the peak that the planner says beside the one that torch's allocator reports, and tokens a second."""

import subprocess
import sys
import time
from dataclasses import dataclass

import torch
import tyro

from preferences.cli import guarded
from trainer.embedded import EMBEDDED
from trainer.fitting import GIB, Setup, Stand, fit, size_of, steps_of
from trainer.models import Quantization, load_base
from trainer.rehearsal import Shape, Ways
from trainer.room import room
from trainer.tally import Tally

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
    loop: bool = True
    """Run scripts/round first."""


def check(config: GpuCheck) -> None:
    """Print one line a step."""
    if not torch.cuda.is_available():
        print("Unmeasured: there is no GPU here that torch can use; `trainer doctor` says why.")
        return
    if config.loop:
        subprocess.run(["scripts/round"], check=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    for model in config.model:
        for line in measure(model, config.quantize, Ways(config.checkpointing)):
            print(line, flush=True)


def measure(model: str, quantization: Quantization, ways: Ways) -> list[str]:
    """Planned and measured peak of each step of PPO, at the largest batch that fits, and its tokens a second."""
    base = load_base(model, quantization)
    space = room(base.device)
    assert space is not None
    setup = Setup(base.model.config, quantization, SHAPE)
    found = fit(setup, "ppo", ways, [space])[0]
    lines = []
    with torch.device(base.device):
        stand = Stand(base, Tally(base.model.config.vocab_size, gpu=True), SHAPE, ways, gpu=True)
        for name, step in steps_of("ppo", stand).items():
            units, planned = found[name].units, found[name].peak.bytes / GIB
            if not units:
                lines.append(f"{model} {quantization} {name}: not even one row fits ({planned:.2f} GiB)")
                continue
            torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            for _ in step.phases(units):
                pass
            torch.cuda.synchronize()
            seconds = time.perf_counter() - began
            peak = torch.cuda.max_memory_allocated() / GIB
            tokens = size_of("ppo", name, stand, units)[1]
            lines.append(
                f"{model} {quantization} {name}: planned {planned:.2f} GiB, measured {peak:.2f} GiB "
                f"({planned / peak - 1:+.1%}), {tokens / seconds:,.0f} tokens/s over {tokens} tokens"
            )
    return lines


if __name__ == "__main__":
    guarded(lambda: check(tyro.cli(GpuCheck, args=sys.argv[1:])))
