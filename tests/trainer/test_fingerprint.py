"""Weights are known by a few bytes of each tensor, wherever they lie."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.trainer.hub import in_hub
from trainer.fingerprint import commit_of, fingerprint

NORM = "model.norm.weight"


def changed(folder: Path, out: Path, change: Callable[[dict[str, Tensor]], object]) -> str:
    """The fingerprint of a copy with other tensors."""
    shutil.copytree(folder, out)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors")
    return fingerprint(out)


def test_neither_the_place_nor_the_division_into_files_changes_it(llama_folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    model.save_pretrained(tmp_path, max_shard_size=40_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    assert fingerprint(tmp_path) == fingerprint(llama_folder)
    assert len(fingerprint(str(llama_folder))) == 16


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors[NORM][-1].add_(1e-3),
        lambda tensors: tensors[NORM][0].add_(1e-3),
        lambda tensors: tensors.update({NORM: tensors[NORM].to(torch.bfloat16)}),
        lambda tensors: tensors.update({NORM: tensors[NORM].reshape(2, -1).clone()}),
        lambda tensors: tensors.update({"model.other": tensors.pop(NORM)}),
        lambda tensors: tensors.pop(NORM),
    ],
    ids=["the last number", "the first number", "the type", "the shape", "the name", "a tensor less"],
)
def test_other_weights_have_another(
    llama_folder: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object]
) -> None:
    assert changed(llama_folder, tmp_path / "same", lambda _: None) == fingerprint(llama_folder)
    assert changed(llama_folder, tmp_path / "other", change) != fingerprint(llama_folder)


def test_forty_gigabytes_are_not_read(tmp_path: Path) -> None:
    """A file with holes, in which only the sampled places have been written."""
    size = 40 * 10**9
    header = json.dumps({"weight": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
        hollow = fingerprint(tmp_path)
        file.seek(-1, 2)
        file.write(b"x")
    assert hollow and fingerprint(tmp_path) != hollow


def test_what_is_not_all_there_has_none(llama_folder: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(llama_folder).save_pretrained(tmp_path, max_shard_size=40_000)
    next(tmp_path.glob("model-*.safetensors")).unlink()
    assert fingerprint(tmp_path) == ""
    (tmp_path / "empty").mkdir()
    assert fingerprint(tmp_path / "empty") == ""
    (tmp_path / "model.safetensors").write_bytes(b"no safetensors at all")
    with pytest.raises(ValueError, match="no safetensors"):
        fingerprint(tmp_path)


def test_of_a_hub_id_what_lies_in_the_cache_counts(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_hub(llama_folder, "me/tiny", "a" * 40, tmp_path, monkeypatch)
    assert fingerprint("me/tiny") == fingerprint(llama_folder)
    assert commit_of("me/tiny") == "a" * 40
    assert (fingerprint("me/absent"), commit_of("me/absent")) == ("", None)
