"""The quantised base on disk: read instead of quantising again, never half, never for other weights."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.families import FAMILIES, save_family
from tests.trainer.hub import in_hub
from trainer import kept_base
from trainer.models import Base, Quantization, load_base

NORM = "model.norm.weight"


@pytest.fixture
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where bases are kept, also small ones."""
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_base, "WORTH_KEEPING", 0.0)
    return tmp_path / "cache" / "bases"


def same(one: Base, other: Base) -> bool:
    """Whether all weights, scales and codes are equal."""
    a, b = one.model.state_dict(), other.model.state_dict()
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a if isinstance(a[name], torch.Tensor))


@pytest.mark.parametrize("quantize", ["int8", "nf4"])
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_what_is_read_is_what_was_quantised(
    bases: Path, tmp_path: Path, family: str, quantize: Quantization, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_family(family, tmp_path / "model")
    first = load_base(str(folder), quantize)
    assert "Keeping the quantised base" in capsys.readouterr().err
    second = load_base(str(folder), quantize)
    assert same(first, second) and first.identity == second.identity
    assert second.model.name_or_path == first.model.name_or_path == str(folder)
    assert len(list(bases.iterdir())) == 1 and "Keeping" not in capsys.readouterr().err


@pytest.mark.parametrize("quantize", ["int8", "nf4"])
def test_it_is_written_in_parts_so_that_a_card_of_weights_is_never_in_memory_at_once(
    bases: Path, llama_folder: Path, quantize: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_base, "SHARD", 20_000)
    first = load_base(str(llama_folder), quantize)
    files = list(bases.glob("*/model-*.safetensors"))
    largest = max(tensor.nbytes for tensor in first.model.state_dict().values() if isinstance(tensor, torch.Tensor))
    assert len(files) > 3
    assert max(sum(x.nbytes for x in load_file(file).values()) for file in files) <= max(20_000, largest)
    assert same(first, load_base(str(llama_folder), quantize))


def test_of_a_hub_id_the_commit_counts_and_the_weights_may_be_deleted(
    bases: Path, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = in_hub(llama_folder, "me/tiny", "a" * 40, tmp_path / "hub", monkeypatch)
    first = load_base("me/tiny", "int8")
    (snapshot / "model.safetensors").unlink()
    assert load_base("me/tiny", "int8").identity == first.identity and first.weights
    in_hub(save_family("llama", tmp_path / "newer", seed=1), "me/tiny", "b" * 40, tmp_path / "hub", monkeypatch)
    newer = load_base("me/tiny", "int8")
    assert newer.weights not in ("", first.weights) and len(list(bases.iterdir())) == 2


def test_the_second_stage_reads_the_kept_one(bases: Path, llama_folder: Path) -> None:
    load_base(str(llama_folder), "int8")
    (file,) = bases.glob("*/model.safetensors")
    tensors = load_file(file)
    tensors[NORM] = tensors[NORM] + 1
    save_file(tensors, file, metadata={"format": "pt"})
    assert torch.equal(load_base(str(llama_folder), "int8").model.state_dict()[NORM], tensors[NORM])


def test_other_weights_or_types_are_quantised_anew(bases: Path, tmp_path: Path) -> None:
    folder = save_family("llama", tmp_path / "model")
    load_base(str(folder), "int8")
    load_base(str(folder), "nf4")
    load_base(str(folder), "int8", dtype=torch.bfloat16)
    assert len(list(bases.iterdir())) == 3
    changed = save_family("llama", folder, seed=1)
    os.utime(changed / "model.safetensors", ns=(1, 1))
    assert not same(load_base(str(changed), "int8"), load_base(str(save_family("llama", tmp_path / "old")), "int8"))
    assert len(list(bases.iterdir())) == 5


def test_an_interrupted_writing_leaves_nothing(
    bases: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle; the next stage quantises, and keeps."""

    def interrupt(folder: Path, **_: object) -> None:
        (folder / "config.json").parent.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    model = load_base(str(llama_folder), "int8").model
    (whole,) = bases.iterdir()
    place = kept_base.KeptBase(bases / "another")
    with monkeypatch.context() as patch:
        patch.setattr(model, "save_pretrained", interrupt)
        with pytest.raises(KeyboardInterrupt):
            place.keep(model, "")
    assert not place.there and list(bases.iterdir()) == [whole]
    place.keep(model, "")
    assert place.there


def test_a_full_disk_is_said_and_left_alone(
    bases: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**29))
    load_base(str(llama_folder), "int8")
    assert "is not kept on disk" in capsys.readouterr().err and not list(bases.iterdir())


def test_small_and_unquantised_bases_are_not_kept(
    bases: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_base(str(llama_folder), "none")
    monkeypatch.setattr(kept_base, "WORTH_KEEPING", 1.0)
    load_base(str(llama_folder), "nf4")
    assert not bases.exists()


@pytest.mark.families
@pytest.mark.parametrize("quantize", ["int8", "nf4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_kept_whole(bases: Path, tmp_path: Path, family: str, quantize: Quantization) -> None:
    folder = save_family(family, tmp_path / "model")
    assert same(load_base(str(folder), quantize), load_base(str(folder), quantize))
    assert len(list(bases.iterdir())) == 1
