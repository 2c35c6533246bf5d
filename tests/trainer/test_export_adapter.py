"""What `trainer export` writes is what other programs load."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    dynamic_module_utils,
)

from preferences.errors import RankloopError
from tests.tiny import save, save_tiny_llama, tiny_tokenizer
from tests.trainer.make import EXAMPLES, classified, close, routed_logits, with_adapters
from trainer.export import Export, export
from trainer.models import UnknownModel, load_base
from trainer.roles import Roles, WrongAdapter
from trainer.scoring import RewardModel

IDS = torch.tensor([[20, 21, 22, 40, 41]])
LORA_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@pytest.fixture
def neox_folder(tmp_path: Path) -> Path:
    """A tiny GPT-NeoX."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, initializer_range=0.1, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return save(GPTNeoXForCausalLM(config), tokenizer, tmp_path / "neox")


def policy(folder: Path, out: Path, quantization: str = "none") -> Roles:
    """A policy's adapter with random weights, saved."""
    roles = with_adapters(load_base(str(folder), quantization), "policy")  # type: ignore[arg-type]
    roles.save("policy", out, {"kind": "ppo"})
    return roles


def reward_model(
    folder: Path,
    out: Path,
    pooling: str = "last",
    quantization: str = "none",
    layer: int | list[int] | None = None,
) -> RewardModel:
    """A reward model with random weights, saved with the answers that it is known by."""
    roles = with_adapters(load_base(str(folder), quantization), "reward", heads=["reward"])  # type: ignore[arg-type]
    roles.read("reward", layer)
    card = {"kind": "reward", "mean": 0.7, "std": 1.9, "pooling": pooling, "layer": layer}
    roles.save("reward", out, card)
    model = RewardModel(roles, "reward", 0.7, 1.9, card)
    document = {
        "examples": [[e.prompt, e.response] for e in EXAMPLES],
        "scores": model.score_all(EXAMPLES, 100),
        "pairs": [],
    }
    (out / "recheck.json").write_text(json.dumps(document))
    return model


def test_a_policy_alone_is_plain_peft_with_its_tokenizer(llama_folder: Path, tmp_path: Path) -> None:
    roles = policy(llama_folder, tmp_path / "adapter")
    found = export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out"))
    assert found == {"out": str(tmp_path / "out"), "kind": "ppo", "merged": False}
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), tmp_path / "out").eval()
    with torch.no_grad(), roles.routed("policy"):
        assert close(peft(IDS).logits, roles.base.model(IDS).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == roles.base.tokenizer.chat_template


def test_a_policy_alone_is_exported_without_the_weights_of_its_base(llama_folder: Path, tmp_path: Path) -> None:
    """Which may be forty gigabytes, or lie on another machine."""
    policy(llama_folder, tmp_path / "adapter", "int8")
    shutil.copytree(llama_folder, tmp_path / "hollow")
    (tmp_path / "hollow" / "model.safetensors").unlink()
    options = {"adapter": tmp_path / "adapter", "model": str(tmp_path / "hollow")}
    assert not export(Export(out=tmp_path / "out", **options))["merged"]  # type: ignore[arg-type]
    assert {"adapter_model.safetensors", "tokenizer.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    with pytest.raises(UnknownModel):
        export(Export(out=tmp_path / "merged", merge=True, **options))  # type: ignore[arg-type]


def test_a_policy_alone_is_laid_out_as_vllm_loads_it(llama_folder: Path, tmp_path: Path) -> None:
    """vllm/lora: `parse_fine_tuned_lora_name`, `PEFTHelper.from_dict` and the check of unexpected modules."""
    roles = policy(llama_folder, tmp_path / "adapter")
    export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out"))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and isinstance(config["target_modules"], list)
    assert config["modules_to_save"] is None and config["bias"] == "none"
    assert not config["use_dora"] and not config["rank_pattern"] and not config["alpha_pattern"]
    sizes = {
        name: (module.in_features, module.out_features)
        for name, module in AutoModelForCausalLM.from_pretrained(llama_folder).named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }
    seen = set()
    for key, tensor in load_file(tmp_path / "out" / "adapter_model.safetensors").items():
        match = LORA_NAME.fullmatch(key)
        assert match, key
        name, side = match.groups()
        wide, high = sizes[name]
        assert tuple(tensor.shape) == ((config["r"], wide) if side == "A" else (high, config["r"]))
        seen.add((name, side))
    assert seen == {(name, side) for name in sizes for side in "AB"}
    assert roles.base.id == str(llama_folder)


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_a_policy_is_merged_into_unquantised_weights(llama_folder: Path, tmp_path: Path, quantization: str) -> None:
    policy(llama_folder, tmp_path / "adapter", quantization)
    found = export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out", merge=True, dtype="float32"))
    assert found["merged"]
    base = AutoModelForCausalLM.from_pretrained(llama_folder)
    expected = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert close(whole(IDS).logits, expected(IDS).logits)
        assert not close(whole(IDS).logits, expected.base_model.model(IDS).logits * 0)
    assert {type(module) for module in whole.modules() if "Linear" in type(module).__name__} == {nn.Linear}


def test_by_default_the_merged_weights_have_sixteen_bits(llama_folder: Path, t5_folder: Path, tmp_path: Path) -> None:
    for folder, dtype in ((llama_folder, torch.float16), (t5_folder, torch.bfloat16)):
        name = folder.name
        policy(folder, tmp_path / name)
        export(Export(adapter=tmp_path / name, out=tmp_path / f"{name}-out", merge=True))
        weights = load_file(tmp_path / f"{name}-out" / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {dtype}


def test_a_merged_encoder_decoder_is_the_adapted_one(t5_folder: Path, tmp_path: Path) -> None:
    roles = policy(t5_folder, tmp_path / "adapter")
    export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out", merge=True, dtype="float32"))
    whole = Roles(load_base(str(tmp_path / "out"), "none"))
    assert close(
        routed_logits(whole, whole.collate(EXAMPLES), "base"), routed_logits(roles, roles.collate(EXAMPLES), "policy")
    )


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_a_reward_model_is_a_sequence_classifier_with_equal_scores(
    family: str, layer: int | None, llama_folder: Path, neox_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One that reads a lower layer is a model with no more layers."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = llama_folder if family == "llama" else neox_folder
    model = reward_model(folder, tmp_path / "adapter", layer=layer)
    found = export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out", merge=True, dtype="float32"))
    assert found["scores_off"] < 1e-4
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == (layer or 2)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert any("layers.1." in name for name in weights) == (layer is None)
    expected, pad_id = model.score_all(EXAMPLES, 100), model.roles.base.pad_id
    own = {"trust_remote_code": True} if family == "llama" else {}
    assert classified(tmp_path / "out", pad_id, **own) == pytest.approx(expected, abs=1e-4)
    if family == "llama":  # without the head's bias all are off alike
        plain = classified(tmp_path / "out", pad_id)
        assert max(a - b for a, b in zip(plain, expected, strict=True)) == pytest.approx(
            min(a - b for a, b in zip(plain, expected, strict=True)), abs=1e-4
        )


def test_a_reward_model_in_sixteen_bits_says_how_far_its_scores_are_off(llama_folder: Path, tmp_path: Path) -> None:
    reward_model(llama_folder, tmp_path / "adapter", quantization="int8")
    found = export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out", merge=True))
    assert 0 < found["scores_off"] < 0.5


def test_what_cannot_be_exported_is_one_sentence(llama_folder: Path, t5_folder: Path, tmp_path: Path) -> None:
    reward_model(llama_folder, tmp_path / "mean", pooling="mean")
    reward_model(llama_folder, tmp_path / "layers", layer=[1, 2])
    reward_model(t5_folder, tmp_path / "t5")
    policy(llama_folder, tmp_path / "policy")
    other = save_tiny_llama(tmp_path / "other", vocabulary=300)
    replaced = save_tiny_llama(tmp_path / "replaced", seed=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for options, words in (
        ({"adapter": tmp_path / "mean", "merge": True}, "--pooling last"),
        ({"adapter": tmp_path / "layers", "merge": True}, "one number"),
        ({"adapter": tmp_path / "t5", "merge": True}, "encoder-decoder"),
        ({"adapter": tmp_path / "policy", "model": str(other)}, "trained with another tokenizer"),
        (
            {"adapter": tmp_path / "policy", "model": str(replaced)},
            f"weights of {llama_folder} '.*those of {replaced} are",
        ),
        ({"adapter": tmp_path}, "holds no rankloop adapter"),
    ):
        with pytest.raises(RankloopError, match=words):
            export(Export(out=tmp_path / "out", **options))  # type: ignore[arg-type]
    with pytest.raises(RankloopError, match="not empty"):
        export(Export(adapter=tmp_path / "policy", out=tmp_path / "full"))
    (tmp_path / "ensemble").mkdir()
    (tmp_path / "ensemble" / "ensemble.json").write_text("{}")
    with pytest.raises(WrongAdapter, match="one by one"):
        export(Export(adapter=tmp_path / "ensemble", out=tmp_path / "out"))
