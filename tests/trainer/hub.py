"""A hub's cache with models of our own, and no network."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants


def in_hub(folder: Path, name: str, commit: str, hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a model's folder into the cache `hub` as the newest commit of a hub id; the snapshot's folder."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = hub / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text(commit)
    return snapshot
