"""Training in processes of its own, and two runs side by side."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.fill import metrics

COSTS = (
    "time",
    "seconds/",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "total_flos",
    "num_tokens",
    "eps",
    "val/padding",
)


def words(stage: str, options: dict[str, Any]) -> list[str]:
    """The options as a command line has them."""
    found = [stage]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            found += [f"--{flag}", *map(str, value)]
        else:
            found += [f"--{flag}", str(value)]
    return found


def environment(**more: str) -> dict[str, str]:
    """Of processes with one thread each, without a card."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def launched(processes: int, stage: str, options: dict[str, Any], **more: str) -> "subprocess.CompletedProcess[str]":
    """`trainer STAGE` in so many processes on this machine, one thread each, by torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launcher, "-m", "trainer", *words(stage, options)]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=400, check=False)


def succeeded(processes: int, stage: str, options: dict[str, Any], **more: str) -> str:
    """The same, which must end well; what it printed."""
    done = launched(processes, stage, options, **more)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def logged(run: Path) -> list[dict[str, Any]]:
    """What a run logged, but for what it cost: time, memory, operations and tokens, to which padding and idle rows add."""
    return [{k: v for k, v in line.items() if not k.startswith(COSTS)} for line in metrics(run)]


def assert_same_run(one: Path, other: Path, adapter: str = "adapter", tolerance: float = 1e-5) -> None:
    """Metrics and trained weights are equal but for rounding."""
    first, second = logged(one), logged(other)
    assert len(first) == len(second) > 0
    for mine, theirs in zip(first, second, strict=True):
        texts = {k for k, v in mine.items() if isinstance(v, str)}
        near = {k: pytest.approx(v, rel=tolerance, abs=tolerance) for k, v in theirs.items() if k not in texts}
        off = {k: (v, theirs.get(k)) for k, v in mine.items() if v != near.get(k, theirs.get(k))}
        assert not off and mine.keys() == theirs.keys(), f"step {mine['step']}: {off}"
    files = sorted(path.name for path in (one / adapter).glob("*.safetensors"))
    assert files
    for file in files:
        torch.testing.assert_close(
            load_file(one / adapter / file), load_file(other / adapter / file), rtol=tolerance, atol=tolerance
        )
