"""Tiny bases, loaded through the path that full-size models take."""

from pathlib import Path

import pytest

from tests.tiny import save_tiny_llama, save_tiny_t5
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
