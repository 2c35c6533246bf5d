"""What comes from outside is looked at first: adapters, models, checkpoints. Nothing of it is run, and no pickle is read."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainer.fill import save_adapter
from trainer.adapters import WrongAdapter, checked_config
from trainer.checkpoints import BadCheckpoint, Checkpoints
from trainer.models import UnknownModel, load_base
from trainer.roles import Roles

pytestmark = [pytest.mark.security, pytest.mark.smoke]
WEIGHTS = "adapter_model.safetensors"
MARK = "ran.txt"


class Malicious:
    """An object whose unpickling writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.mark, "I ran.")


@pytest.fixture
def adapter(llama_folder: Path, tmp_path: Path) -> Path:
    return save_adapter(llama_folder, tmp_path / "adapter", head=True)


def load(llama_folder: Path, adapter: Path) -> None:
    Roles(load_base(str(llama_folder), "none")).load("reward", adapter)


def test_a_whole_adapter_is_taken(llama_folder: Path, adapter: Path) -> None:
    load(llama_folder, adapter)
    config = checked_config(adapter)
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.0)


def change(name: str, value: Any) -> Callable[[Path], None]:
    """Write something else into the adapter's configuration."""

    def changed(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    return changed


def weights(do: Callable[[dict[str, torch.Tensor]], object], file: str = WEIGHTS) -> Callable[[Path], None]:
    """Do something with the adapter's tensors."""

    def changed(folder: Path) -> None:
        state = load_file(folder / file)
        do(state)
        save_file(state, folder / file)

    return changed


def cut(file: str, length: int) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length]) and None


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another kind": (change("peft_type", "IA3"), "is no LoRA"),
    "no rank": (change("r", 0), "rank 0"),
    "a huge rank": (change("r", 10**9), "rank 1000000000"),
    "a rank in words": (change("r", "4"), "rank '4'"),
    "a negative scale": (change("lora_alpha", -1), "lora_alpha -1"),
    "no modules": (change("target_modules", []), "names no target_modules"),
    "a pattern": (change("target_modules", "(a+)+$"), "names no target_modules"),
    "modules of another model": (change("target_modules", ["query_key_value"]), "does not fit this model"),
    "DoRA": (change("use_dora", True), "not plain LoRA"),
    "an initialisation that changes the base": (change("init_lora_weights", "pissa"), "not plain LoRA"),
    "whole modules": (change("modules_to_save", ["lm_head"]), "not plain LoRA"),
    "layers twice": (change("layer_replication", [[0, 2], [0, 2]]), "not plain LoRA"),
    "other ranks": (change("rank_pattern", {"q_proj": 9}), "not plain LoRA"),
    "an option that is not known": (change("run_this", "import os"), "not plain LoRA"),
    "no JSON": (cut("adapter_config.json", 20), "not valid JSON"),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), "not a JSON object"),
    "deep JSON": (lambda folder: (folder / "adapter_config.json").write_text("[" * 100_000), "not valid JSON"),
    "a cut file": (cut(WEIGHTS, 5000), "cannot be read as safetensors"),
    "an empty file": (cut(WEIGHTS, 0), "cannot be read as safetensors"),
    "a pickle of that name": (
        lambda folder: torch.save({"x": torch.zeros(2)}, folder / WEIGHTS), "cannot be read as safetensors",
    ),
    "no numbers": (weights(lambda state: state[min(state)].fill_(float("nan"))), "are no numbers"),
    "infinite numbers": (weights(lambda state: state[max(state)].fill_(float("inf"))), "are no numbers"),
    "a tensor too few": (weights(lambda state: state.pop(min(state))), "does not fit this model"),
    "a tensor too many": (weights(lambda state: state.update(x=torch.zeros(1))), "does not fit this model"),
    "another shape": (
        weights(lambda state: state.update({min(state): torch.zeros(3, 3)})), "does not fit this model",
    ),
    "a head of another width": (
        weights(lambda state: state.update(weight=torch.zeros(1, 3)), "head.safetensors"), "does not fit this model",
    ),
    "a head without numbers": (
        weights(lambda state: state["bias"].fill_(float("nan")), "head.safetensors"), "are no numbers",
    ),
    "no card": (lambda folder: (folder / "rankloop.json").unlink(), "holds no rankloop adapter"),
    "a broken card": (cut("rankloop.json", 9), "not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_an_adapter_that_is_not_what_it_should_be_is_refused_in_one_sentence(
    llama_folder: Path, adapter: Path, case: str
) -> None:
    spoil, words = BROKEN[case]
    spoil(adapter)
    with pytest.raises(WrongAdapter) as refused:
        load(llama_folder, adapter)
    assert words in str(refused.value)


def test_an_adapter_that_is_a_pickle_is_not_read(llama_folder: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / WEIGHTS).unlink()
    with (adapter / "adapter_model.bin").open("wb") as file:
        pickle.dump(Malicious(tmp_path / MARK), file)
    with pytest.raises(WrongAdapter, match=r"adapter_model\.bin, a pickle"):
        load(llama_folder, adapter)
    assert not (tmp_path / MARK).exists()


def test_a_model_whose_weights_are_a_pickle_is_not_read(llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Malicious(tmp_path / MARK), file)
    for quantization in ("none", "int8"):
        with pytest.raises(UnknownModel, match=r"pytorch_model\.bin, a pickle"):
            load_base(str(folder), quantization)  # type: ignore[arg-type]
    assert not (tmp_path / MARK).exists()


def test_the_code_of_a_model_repository_is_never_run(llama_folder: Path, tmp_path: Path) -> None:
    """Neither that of its configuration, its model nor its tokenizer; nobody is asked whether it may be."""
    folder = tmp_path / "model"
    shutil.copytree(llama_folder, folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / MARK)!r}, 'w').write('I ran.')\nclass Evil: ...\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownModel, match="could not be loaded"):
        load_base(str(folder), "none")
    shutil.copyfile(llama_folder / "config.json", folder / "config.json")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    try:
        load_base(str(folder), "none")
    except UnknownModel as error:
        assert "could not be loaded" in str(error)
    assert not (tmp_path / MARK).exists()


def test_a_checkpoint_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"done": Malicious(tmp_path / MARK)}, tmp_path / "checkpoints" / "000001.pt")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        Checkpoints(tmp_path / "checkpoints").newest()
    assert not (tmp_path / MARK).exists()


def test_no_pickle_is_read_as_data(tmp_path: Path) -> None:
    """Under every name that an import takes."""
    from preferences.errors import RankloopError
    from preferences.exchange.reading import SUFFIXES, converted

    for suffix in SUFFIXES:
        path = tmp_path / f"data{suffix}"
        with path.open("wb") as file:
            pickle.dump(Malicious(tmp_path / MARK), file)
        with pytest.raises(RankloopError):
            list(converted(path, lambda value: value))
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.pkl"}]}))
    with (folder / "data.pkl").open("wb") as file:
        pickle.dump(Malicious(tmp_path / MARK), file)
    with pytest.raises(RankloopError):
        list(converted(folder, lambda value: value))
    assert not (tmp_path / MARK).exists()
