"""The loop and every stage's steps on a GPU, on the embedded model and the largest known one that fits: the peak that the
planner says beside the one that torch's allocator reports, and tokens a second."""

import gc
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from huggingface_hub import try_to_load_from_cache
from peft.tuners.lora import LoraLayer

from preferences.cli import guarded
from scripts.random_model import write_random
from trainer.budget import sampling_budget
from trainer.embedded import EMBEDDED
from trainer.fitting import GIB, Found, Setup, Stand, fit, size_of, steps_of
from trainer.footprint import weight_bytes
from trainer.known_models import KNOWN, find_config
from trainer.models import Base, Quantization, default_device, load_base
from trainer.plan import Plan, plan
from trainer.rehearsal import ENDLESS, Decode, Shape, Step
from trainer.rollout import Sampling, generate
from trainer.room import room, unquantised
from trainer.tally import Tally
from trainer.ways import StageName, Ways

SHAPE = Shape(256, 128, 4)
STAGES: tuple[StageName, ...] = ("ppo", "reward", "sft")  # sft last: trl changes the model's own forward


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCheck:
    """Run the loop on models, then every stage's steps at the largest batches that fit."""

    model: tuple[str, ...] = ()
    """Models to try; default the embedded one and the largest known one that fits and is at hand: in the hub's cache, or with
    --random any that the disk has room for."""
    quantize: Quantization = "int8"
    """Quantisation of the frozen base."""
    checkpointing: bool = False
    """Gradient checkpointing, for the models that are named and the embedded one; the largest gets what it needs."""
    value: Literal["adapter", "trunk"] = "adapter"
    """PPO's value, for the same: an adapter of its own, or a head on the policy's trunk."""
    limit: float | None = None
    """Take so many GiB of the card at most, what lies outside torch's allocator included, as on a smaller card (the loop
    takes what it likes)."""
    random: Path | None = None
    """Give known models random weights, written to this folder (with room for a download), and download nothing."""
    loop: bool = True
    """Play scripts/round on each first: whole on the embedded model, small and as thrifty as can be on others."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A model, and with which options each stage is tried."""

    model: str
    ways: dict[StageName, Ways]


def check(config: GpuCheck) -> None:
    """Print one line a step."""
    if not torch.cuda.is_available():
        print("Unmeasured: there is no GPU here that torch can use; `trainer doctor` says why.")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    space = within_limit(config.limit)
    for trial in trials(config, space):
        with source(config, trial.model) as where:
            if config.loop:
                subprocess.run(loop_of(config, trial.model, where), check=True)
            for line in lines(config, trial, where, space):
                print(line, flush=True)
        clear()


def trials(config: GpuCheck, space: int) -> list[Trial]:
    """What is tried, on so many bytes."""
    ways = dict.fromkeys(STAGES, Ways(config.checkpointing, config.value))
    if config.model:
        return [Trial(model, ways) for model in config.model]
    largest = largest_that_fits(config, space)
    if largest is None:
        print("Of the larger known models none fits and is at hand; --random FOLDER makes one, --model names one.")
    return [Trial(EMBEDDED, ways), *([largest] if largest else [])]


def largest_that_fits(config: GpuCheck, space: int) -> Trial | None:
    """The known model with most parameters that fits through all stages and is at hand, with the options that it needs."""
    for name, known in sorted(KNOWN.items(), key=lambda item: -item[1].billions):
        model = find_config(name)
        if name == EMBEDDED or not at_hand(config, known.hub_id, known.billions * 1e9 * model.bytes_each):
            continue
        if weight_bytes(Setup(model.config, config.quantize, SHAPE)) > space:
            continue
        shape = {"prompt": SHAPE.prompt, "response": SHAPE.response, "samples": SHAPE.samples}
        planned = plan(Plan(model=name, quantize=config.quantize, vram=space / GIB, **shape))  # type: ignore[arg-type]
        if all(stage.fits for stage in planned.stages):
            return Trial(name, {stage.stage: stage.ways for stage in planned.stages if stage.stage in STAGES})
    return None


def at_hand(config: GpuCheck, hub_id: str, size: float) -> bool:
    """Whether the weights are in the hub's cache; with --random, whether the disk has room for as many bytes."""
    if config.random is None:
        return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)
    config.random.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(config.random).free > size + GIB


def loop_of(config: GpuCheck, model: str, where: str) -> list[str]:
    """The command that plays the loop."""
    command = ["scripts/round", "--model", where, "--quantize", config.quantize]
    return command if model == EMBEDDED else [*command, "--fast", "--thrifty"]


@contextmanager
def source(config: GpuCheck, model: str) -> Iterator[str]:
    """What to load the model from; a folder with random weights is gone afterwards."""
    if config.random is None:
        yield model
        return
    config.random.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.random) as folder:
        yield str(write_random(model, Path(folder), default_device()))


def lines(config: GpuCheck, trial: Trial, where: str, space: int) -> Iterator[str]:
    """How long loading took, and each step of every stage at the largest batch that fits: its peak, planned and measured, and
    its tokens a second."""
    name = f"{trial.model} {config.quantize}"
    began = time.perf_counter()
    base = load_base(where, config.quantize)
    yield f"{name}: loaded in {time.perf_counter() - began:.0f} s, peak {torch.cuda.max_memory_allocated() / GIB:.2f} GiB"
    setup = Setup(unquantised(base), config.quantize, SHAPE)
    for stage, ways in sorted(trial.ways.items(), key=lambda item: STAGES.index(item[0])):
        found = fit(setup, stage, ways, [space])[0]
        for line in stage_lines(base, stage, ways, found):
            yield f"{name} {line}"
        bare(base.model)
        clear()
    free, total = torch.cuda.mem_get_info()
    yield f"{name}: the card holds {(total - free) / GIB:.2f} GiB at the end, {space / GIB:.2f} GiB were planned with"


def stage_lines(base: Base, stage: StageName, ways: Ways, found: dict[str, Found]) -> Iterator[str]:
    """Each step of a stage."""
    with torch.device(base.device):
        stand = Stand(base, Tally(base.model.config.vocab_size, gpu=True), SHAPE, ways, gpu=True)
        for name, step in steps_of(stage, stand).items():
            yield f"{stage} {name}: {measured(stand, stage, name, step, found[name])}"


def bare(model: Any) -> None:
    """The model without the adapters that a stage has put into it."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoraLayer):
                setattr(parent, name, layer.base_layer)  # type: ignore[arg-type]
    del model.peft_config


def clear() -> None:
    """Give back what nobody holds."""
    gc.collect()
    torch.cuda.empty_cache()


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


def measured(stand: Stand, stage: StageName, name: str, step: Step, found: Found) -> str:
    """The step once to warm up, and once for its peak and its time."""
    planned = found.peak.bytes / GIB
    if not found.units:
        return f"not even one row fits ({planned:.2f} GiB)"
    answers, tokens = size_of(stage, name, stand, found.units)
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
