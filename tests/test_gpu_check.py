"""scripts/gpu_check on a machine without a GPU: what it says, what it would try, and its steps on a CPU."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scripts import gpu_check
from scripts.gpu_check import GpuCheck, Trial, check, largest_that_fits, lines, loop_of
from tests.tiny import save_tiny_llama
from trainer.embedded import EMBEDDED
from trainer.fitting import GIB
from trainer.ways import Ways


def test_without_a_gpu_it_says_that_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check(GpuCheck())
    assert capsys.readouterr().out.startswith("Unmeasured: ")


def test_the_loop_is_whole_on_the_embedded_model_and_thrifty_on_a_larger_one() -> None:
    whole, small = (loop_of(GpuCheck(), model, "here") for model in (EMBEDDED, "qwen3-8b"))
    assert whole == ["scripts/round", "--model", "here", "--quantize", "int8"]
    assert small == [*whole, "--fast", "--thrifty"]


@pytest.mark.planner
def test_the_largest_known_model_that_fits_and_has_room_on_the_disk_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = GpuCheck(quantize="int8", random=tmp_path)
    free = SimpleNamespace(free=100 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    found = largest_that_fits(config, 24 * GIB)
    assert found is not None and found.model == "gpt-neox-20b"  # qwen3-32b's weights are larger, opt-iml-max-30b's too
    assert found.ways["ppo"].checkpointing
    free.free = 20 * GIB  # gpt-neox-20b is 38 GiB on the disk
    found = largest_that_fits(config, 24 * GIB)
    assert found is not None and found.model == "qwen3-8b"
    monkeypatch.setattr(gpu_check, "try_to_load_from_cache", lambda *_: None)
    assert largest_that_fits(GpuCheck(), 24 * GIB) is None


@pytest.mark.planner
def test_the_steps_of_every_stage_run_one_after_the_other_on_one_base(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a CPU, whose peaks torch's allocator for GPUs does not see."""
    for name in ("reset_peak_memory_stats", "synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    for name in ("max_memory_allocated", "max_memory_reserved"):
        monkeypatch.setattr(torch.cuda, name, lambda: GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (GIB, 2 * GIB))
    config, model = GpuCheck(quantize="none"), str(save_tiny_llama(tmp_path))
    trial = Trial(model, {"sft": Ways(), "reward": Ways(checkpointing=True), "ppo": Ways()})
    said = list(lines(config, trial, model, GIB + 64 * 2**20))
    stages = ["ppo update", "ppo judge", "ppo sample", "reward update", "sft update"]
    assert [line.removeprefix(f"{model} none ").split(":")[0] for line in said[1:-1]] == stages
    assert all("tokens/s" in line and ", planned 0.0" in line for line in said[1:-1]), said
