"""Which configurations the planner takes, and what it makes of architectures that nobody named."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from tests.trainer.test_main import call
from trainer.fitting import Setup
from trainer.footprint import footprint
from trainer.known_models import find_config
from trainer.models import UnknownModel
from trainer.plan import STAGES, Plan, plan
from trainer.plan_text import as_text
from trainer.rehearsal import Shape

SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
}  # fmt: skip
TEXT = {**SIZES, "num_hidden_layers": 6, "head_dim": 16, "sliding_window": 32}
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 512},
    "falcon": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 512},
    "phi3": {**SIZES, "num_hidden_layers": 3, "pad_token_id": 0},
    "gemma2": TEXT,
    "qwen2_moe": {
        **SIZES, "num_hidden_layers": 3, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64,
        "num_experts": 4, "num_experts_per_tok": 2,
    },
    "mt5": {"d_model": 64, "d_ff": 128, "num_layers": 3, "num_heads": 4, "d_kv": 16, "vocab_size": 512},
    "gemma3": {"text_config": {"model_type": "gemma3_text", **TEXT}, "vision_config": VISION},
}  # fmt: skip


def save(model_type: str, folder: Path) -> Path:
    """A small configuration of that architecture; its folder."""
    AutoConfig.for_model(model_type, **OTHERS[model_type]).save_pretrained(folder)
    return folder


def test_the_file_that_is_named_is_read_and_no_other(tmp_path: Path) -> None:
    AutoConfig.for_model("llama", hidden_size=64, num_hidden_layers=5).save_pretrained(tmp_path)
    shutil.move(tmp_path / "config.json", tmp_path / "five.json")
    AutoConfig.for_model("llama", hidden_size=64, num_hidden_layers=7).save_pretrained(tmp_path)
    layers = [find_config(str(tmp_path / name)).config.num_hidden_layers for name in ("five.json", "config.json", "")]
    assert layers == [5, 7, 7]
    with pytest.raises(UnknownModel, match=r"none\.json"):
        find_config(str(tmp_path / "none.json"))


def test_of_a_model_that_sees_pictures_the_text_model_is_planned_and_that_is_said(tmp_path: Path) -> None:
    found = find_config(str(save("gemma3", tmp_path)))
    assert (found.config.model_type, found.config.num_hidden_layers, found.within) == ("gemma3_text", 6, True)
    assert not find_config("gemma-3-1b").within


@pytest.mark.parametrize(("model_type", "sizes"), [("vit", {}), ("bart", {"d_model": 32}), ("clip", {})])
def test_what_does_not_answer_in_text_is_refused_in_a_sentence(
    model_type: str, sizes: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    AutoConfig.for_model(model_type, **sizes).save_pretrained(tmp_path)
    assert call("plan", "--model", str(tmp_path)) == 2
    assert f"is a {model_type}, neither a decoder nor" in capsys.readouterr().err


ALL_IN_16_BITS = {"falcon"}  # its layers are of a class of their own, which transformers does not quantise


@pytest.mark.planner
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False but")  # PEFT sets it then
@pytest.mark.parametrize(
    ("model_type", "quantize"),
    [
        *((name, "none") for name in OTHERS),
        ("falcon", "nf4"),
        ("gpt2", "int8"),
        ("qwen2_moe", "nf4"),
        ("gemma3", "nf4"),
    ],
)
def test_any_config_is_planned_in_all_stages(model_type: str, quantize: Any, tmp_path: Path) -> None:
    """The weights are those of the architecture's own modules, in two bytes a number or fewer."""
    name = str(save(model_type, tmp_path))
    planned = plan(Plan(model=name, quantize=quantize, vram=8, prompt=24, response=8, samples=2, limit=2))
    found, (config, checkpoint, within) = planned.as_json(), find_config(name)
    assert found["fits"] and found["batch"] == 2
    assert set(found["stages"]) == set(STAGES)
    numbers = footprint(Setup(config, "none", Shape(8, 8, 1)), checkpoint, name, 16, 0).parameters
    weights = planned.stages[0].tightest.peak.parts["weights"]
    if quantize == "none" or model_type in ALL_IN_16_BITS:
        assert weights == pytest.approx(2 * numbers, rel=0.02)
    else:
        assert 0.5 * numbers < weights < 1.9 * numbers
    assert ("the text model alone" in as_text(planned)) is within
