"""scripts/gpu_check on a machine without a GPU."""

import pytest
import torch

from scripts.gpu_check import GpuCheck, check


def test_without_a_gpu_it_says_that_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check(GpuCheck())
    assert capsys.readouterr().out.startswith("Unmeasured: ")
