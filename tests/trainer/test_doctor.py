"""`trainer doctor`: every line has its remedy."""

import importlib.metadata
import json
import shutil
from pathlib import Path
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


def test_the_disk_of_the_hubs_cache_is_looked_at_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = tmp_path / "not" / "there" / "yet"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda where: SimpleNamespace(free=(1 if Path(where) == tmp_path else 100) << 30)
    )
    found = doctor.disk()
    assert found.state == "bad" and f"1 GiB free for {hub}" in found.found
    assert "HF_HOME" in found.remedy and "RANKLOOP_CACHE" not in found.remedy


def test_versions_are_held_against_what_the_package_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.versions().state == "ok"
    versions = {"peft": "0.19.0", "bitsandbytes": None}
    true = importlib.metadata.version

    def version(name: str) -> str:
        found = versions.get(name, "") or (true(name) if name not in versions else "")
        if not found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = doctor.versions()
    assert found.state == "bad" and "peft 0.19.0" in found.found
    assert "peft <0.22,>=0.21 instead of 0.19.0" in found.remedy
    assert "bitsandbytes >=0.50 instead of none" in found.remedy


def test_one_bad_finding_is_enough_for_not_ok() -> None:
    fine, bad = Finding("disk", "ok", "10 GiB"), Finding("cuda", "bad", "no GPU", "Buy one.")
    assert as_json([fine])["ok"] and not as_json([fine, bad])["ok"]
    assert as_text([fine, bad]).splitlines() == ["ok    disk: 10 GiB", "BAD   cuda: no GPU. Buy one."]


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["checks"]
