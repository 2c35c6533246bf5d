"""Tiny bases, loaded through the path that full-size models take."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from preferences.store import Store
from tests.tiny import save_tiny_llama, save_tiny_t5
from tests.trainer.fill import save_adapter
from trainer.models import Base, load_base


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder of these tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Device locks of their own: the tests wait for nobody's training."""
    monkeypatch.setenv("RANKLOOP_CACHE", str(cache))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny Llama."""
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny T5."""
    return save_tiny_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def base(llama_folder: Path) -> Base:
    """A tiny Llama without quantisation; new for each test, since adapters are put into it."""
    return load_base(str(llama_folder), "none")


@pytest.fixture
def t5_base(t5_folder: Path) -> Base:
    """A tiny T5 without quantisation."""
    return load_base(str(t5_folder), "none")


@pytest.fixture
def as_before() -> Iterator[None]:
    """The worker makes its process nice and takes all threads but one; the tests are that process."""
    niceness, threads = os.getpriority(os.PRIO_PROCESS, 0), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


@pytest.fixture
def worker_options(store: Store, llama_folder: Path) -> dict[str, Any]:
    """Options of a worker that stops when there is nothing to do."""
    return {
        "db": store.path, "model": str(llama_folder), "quantize": "none", "once": True, "max_new_tokens": 6,
        "temperature": 1.0, "prompts_at_once": 2, "poll": 0.05, "runs": store.path.parent / "runs",
    }  # fmt: skip


@pytest.fixture(scope="session")
def adapters(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A policy and a reward model on the tiny Llama."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "sft": save_adapter(llama_folder, folder / "sft"),
        "reward": save_adapter(llama_folder, folder / "reward", seed=2, head=True),
    }
