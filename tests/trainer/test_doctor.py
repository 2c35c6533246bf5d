"""`trainer doctor`: every line has its remedy."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from tests.trainer.test_main import call
from trainer import doctor
from trainer.doctor import Doctor, Finding, as_json, as_text, int8_kernels, nf4_kernels

pytestmark = pytest.mark.usefixtures("own_cache")


def test_every_finding_that_is_not_ok_has_a_remedy() -> None:
    findings = doctor.doctor(Doctor())
    assert {one.what for one in findings} >= {
        "driver", "cuda", "vram", "int8 kernels", "nf4 kernels", "bf16", "host RAM", "disk", "versions", "embedded model",
        "offline cache",
    }  # fmt: skip
    assert all(one.remedy for one in findings if one.state != "ok")


def test_the_quantised_kernels_are_tried_on_this_machine() -> None:
    assert int8_kernels().state == "ok"
    assert nf4_kernels().state == "ok"


def test_a_kernel_that_fails_or_is_wrong_is_said_to_be_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "product", lambda: (_ for _ in ()).throw(RuntimeError("no kernel image")))
    assert int8_kernels().state == "bad"
    assert "no kernel image" in int8_kernels().found
    monkeypatch.setattr(doctor, "nf4_error", lambda _: 0.9)
    assert nf4_kernels().state == "bad"


def test_a_driver_that_torch_does_not_see_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert doctor.cuda() == Finding("cuda", "bad", doctor.cuda().found, "Reinstall with `scripts/install --gpu`.")


def test_a_full_disk_and_short_memory_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 30))
    assert doctor.disk().state == "bad"
    monkeypatch.setattr(doctor, "available_memory", lambda: 1 << 30)
    assert doctor.host_memory().state == "note"


def test_one_bad_finding_is_enough_for_not_ok() -> None:
    fine, bad = Finding("disk", "ok", "10 GiB"), Finding("cuda", "bad", "no GPU", "Buy one.")
    assert as_json([fine])["ok"] and not as_json([fine, bad])["ok"]
    assert as_text([fine, bad]).splitlines() == ["ok    disk: 10 GiB", "BAD   cuda: no GPU. Buy one."]


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["checks"]
