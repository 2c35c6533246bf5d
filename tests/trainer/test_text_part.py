"""Models that see pictures: their text model is loaded alone, with its own weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from tests.tiny import save, tiny_tokenizer
from tests.trainer.test_known_models import OTHERS
from trainer.batches import Example
from trainer.models import Quantization, UnknownModel, load_base
from trainer.roles import Roles

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def save_gemma(folder: Path) -> torch.Tensor:
    """A small Gemma 3 with its picture encoder; what it says of `IDS`."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model("gemma3", **OTHERS["gemma3"])).eval()
    save(model, tiny_tokenizer(), folder)
    with torch.no_grad():
        said: torch.Tensor = model(input_ids=IDS).logits
    return said


def rewrite(folder: Path, names: dict[str, str]) -> None:
    """Rename weights, by the beginning of their names; "" drops them."""
    file = folder / "model.safetensors"
    kept = {}
    for key, tensor in load_file(file).items():
        old = next((old for old in names if key.startswith(old)), "")
        if not old or names[old]:
            kept[names[old] + key.removeprefix(old) if old else key] = tensor
    save_file(kept, file, {"format": "pt"})


@pytest.mark.parametrize("quantize", ["none", "nf4"])
@pytest.mark.parametrize("beginning", ["language_model.model.", "model.language_model."])
def test_the_text_model_says_what_the_whole_one_says(beginning: str, quantize: Quantization, tmp_path: Path) -> None:
    """In checkpoints of both ways to name the weights, those of before and since transformers 4.52."""
    expected = save_gemma(tmp_path)
    names = dict.fromkeys(("language_model.model.", "model.language_model."), beginning)
    rewrite(tmp_path, names)
    assert any(key.startswith(beginning) for key in load_file(tmp_path / "model.safetensors"))
    base = load_base(str(tmp_path), quantize)
    assert type(base.model).__name__ == "Gemma3ForCausalLM"
    assert not any("vision" in name for name, _ in base.model.named_parameters())
    with torch.no_grad():
        off = (base.model(input_ids=IDS).logits - expected).norm() / expected.norm()
    assert off < (1e-5 if quantize == "none" else 0.3)
    roles = Roles(base)
    with torch.no_grad(), roles.routed("base"):
        assert roles.response_states(roles.collate([Example([5, 6], [7, 8])])).isfinite().all()


def test_weights_that_lack_a_part_of_it_are_refused(tmp_path: Path) -> None:
    save_gemma(tmp_path)
    layer = "layers.1.mlp.up_proj"
    rewrite(tmp_path, {f"{start}{layer}": "" for start in ("language_model.model.", "model.language_model.")})
    with pytest.raises(UnknownModel, match=rf"its text model lacks model\.{layer}"):
        load_base(str(tmp_path), "none")
