"""What a base knows of itself, and models that cannot be loaded."""

import json
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoConfig

from tests.families import FAMILIES, save_family
from tests.trainer.make import is_one_sentence
from trainer.fingerprint import fingerprint
from trainer.models import (
    Base,
    UnknownModel,
    base_without_model,
    compute_dtype,
    default_device,
    default_quantization,
    end_tokens,
    load_base,
    pad_token,
    quantization_config,
)
from trainer.templates import PLAIN_TEMPLATE

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def test_a_base_is_frozen(base: Base, t5_base: Base) -> None:
    for each in (base, t5_base):
        assert not any(parameter.requires_grad for parameter in each.model.parameters())
        assert not any(module.training for module in each.model.modules())
        assert {parameter.dtype for parameter in each.model.parameters()} == {torch.float32}
    assert (base.is_encoder_decoder, t5_base.is_encoder_decoder) == (False, True)
    assert (base.stop_ids, base.pad_id) == ((2,), 0)


def test_prompts_are_the_chat_template(base: Base) -> None:
    ids = base.prompt_ids(MESSAGES)
    assert base.tokenizer.decode(ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert all(type(token) is int for token in ids)


def test_only_a_finished_answer_has_an_end_token(base: Base) -> None:
    ids = base.response_ids("The air.", finished=False)
    assert base.response_ids("The air.", finished=True) == [*ids, base.tokenizer.eos_token_id]
    assert base.tokenizer.decode(ids) == "The air."
    assert base.text([*ids, base.stop_ids[0]]) == base.text(ids) == "The air."
    assert base.text(base.response_ids(" \n", True)) == ""


def test_a_model_without_a_template_gets_a_plain_one(llama_folder: Path, tmp_path: Path) -> None:
    for file in llama_folder.iterdir():
        if file.is_file() and "template" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    base = load_base(str(tmp_path), "none")
    assert base.tokenizer.chat_template == PLAIN_TEMPLATE
    assert base.tokenizer.decode(base.prompt_ids(MESSAGES)) == "System: Be brief.\nUser: Why?\nAssistant:"


def test_the_tokenizers_hash_sees_template_stop_and_pad(llama_folder: Path) -> None:
    def changed(**fields: object) -> str:
        base = load_base(str(llama_folder), "none")
        values = {name: getattr(base, name) for name in Base.__slots__}
        return Base(**{**values, **fields}).tokenizer_hash

    first = load_base(str(llama_folder), "none")
    other = load_base(str(llama_folder), "none")
    assert first.identity == other.identity
    assert first.called == {"base": str(llama_folder), "quantization": "none", "tokenizer": first.tokenizer_hash}
    assert first.identity == {**first.called, "weights": fingerprint(llama_folder), "quantization_config": {}}
    other.tokenizer.chat_template += " "
    assert other.template_hash != first.template_hash
    grown = load_base(str(llama_folder), "none")
    grown.tokenizer.add_tokens(["unheard-of"])
    hashes = {other.tokenizer_hash, grown.tokenizer_hash, changed(stop_ids=(2, 3)), changed(pad_id=5)}
    assert len(hashes | {first.tokenizer_hash}) == 5
    assert changed() == first.tokenizer_hash


@pytest.mark.parametrize("missing", ["generation_config.json", "chat_template.jinja"])
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_base_is_known_without_its_model(
    family: str, missing: str, llama_folder: Path, t5_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / family
    shutil.copytree({"llama": llama_folder, "t5": t5_folder}[family], folder)
    (folder / missing).unlink()
    whole = load_base(str(folder), "none")
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    known = base_without_model(str(folder))
    assert known.model is None and known.identity == {**whole.identity, "weights": ""}
    assert known.is_encoder_decoder == whole.is_encoder_decoder
    (tmp_path / "model.safetensors").rename(folder / "model.safetensors")
    assert base_without_model(str(folder)).identity == whole.identity


def tokenizer(**fields: object) -> SimpleNamespace:
    """A tokenizer that only has special tokens."""
    return SimpleNamespace(**{"pad_token_id": None, "unk_token_id": None, "eos_token_id": 2, **fields})


class Words(SimpleNamespace):
    """A tokenizer of five tokens."""

    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("pad", "unknown", "expected"), [(7, 9, 7), (2, 9, 9), (None, 9, 9), (2, 2, 0), (None, None, 0), (0, None, 0)]
)
def test_the_pad_token_never_ends_an_answer(pad: int | None, unknown: int | None, expected: int) -> None:
    assert pad_token(tokenizer(pad_token_id=pad, unk_token_id=unknown), (2,)) == expected


def test_even_where_id_0_ends_answers() -> None:
    assert pad_token(Words(pad_token_id=0, unk_token_id=None), (0, 1)) == 2


@pytest.mark.parametrize(
    ("own", "configured", "expected"), [(2, 2, (2,)), (2, [5, 2, 6], (2, 5, 6)), (2, None, (2,)), (None, 5, (5,))]
)
def test_the_tokenizers_end_token_comes_first(own: int | None, configured: object, expected: tuple[int, ...]) -> None:
    assert end_tokens(SimpleNamespace(eos_token_id=configured), tokenizer(eos_token_id=own)) == expected


def test_defaults_follow_the_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert (default_quantization(cpu), default_quantization(cuda)) == ("none", "int8")
    configs = {family: AutoConfig.for_model(**config) for family, config in FAMILIES.items()}
    assert {compute_dtype(cpu, config) for config in configs.values()} == {torch.float32}
    found = {family: compute_dtype(cuda, config) for family, config in configs.items()}
    assert set(found.values()) == {torch.float16, torch.bfloat16}
    assert {family for family, dtype in found.items() if dtype == torch.bfloat16} == {"t5", "gemma3_text"}
    assert compute_dtype(cuda, AutoConfig.for_model("gemma3")) == torch.bfloat16
    assert default_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def test_a_gemma_3_is_loaded_in_what_holds_its_activations(tmp_path: Path) -> None:
    """Its norms behind each block let them grow beyond 65504, the most that fp16 holds."""
    folder = save_family("gemma3_text", tmp_path)
    ids, finite = torch.tensor([[20, 21, 22]]), {}
    for dtype in (None, torch.float16):
        model = load_base(str(folder), "none", torch.device("cpu"), dtype, computing=torch.device("cuda")).model
        for layer in model.model.layers:
            layer.post_feedforward_layernorm.weight.fill_(50_000)
        finite[model.dtype] = bool(model(ids).logits.isfinite().all())
    assert finite == {torch.bfloat16: True, torch.float16: False}


def test_quantisation_settings(llama_folder: Path) -> None:
    """Threshold 0 is what makes an int8 row independent of its batch."""
    assert quantization_config("none", torch.float32) is None
    assert quantization_config("nf4", torch.float16).bnb_4bit_compute_dtype == torch.float16
    int8, nf4 = (load_base(str(llama_folder), quantization) for quantization in ("int8", "nf4"))
    assert int8.model.model.layers[0].mlp.up_proj.state.threshold == 0
    assert nf4.model.model.layers[0].mlp.up_proj.weight.quant_type == "nf4"
    assert nf4.model.model.layers[0].mlp.up_proj.weight.quant_state.nested  # the scales in 8 bits too
    assert {type(base.model.lm_head) for base in (int8, nf4)} == {torch.nn.Linear}
    assert (int8.quantization, nf4.quantization) == ("int8", "nf4")


@pytest.mark.parametrize("name", ["no-such-model", "nobody/nothing", "/no/such/folder", "a/b/c/d"])
def test_an_unknown_model_is_one_sentence(name: str) -> None:
    with pytest.raises(UnknownModel) as error:
        load_base(name)
    assert is_one_sentence(str(error.value))
    assert repr(name) in str(error.value)
    assert "--model" in str(error.value)


def test_so_are_an_empty_folder_an_odd_one_and_a_broken_one(llama_folder: Path, tmp_path: Path) -> None:
    odd, broken = tmp_path / "odd", tmp_path / "broken"
    odd.mkdir()
    broken.mkdir()
    (odd / "config.json").write_text('{"model_type": "perpetuum-mobile"}')
    for file in llama_folder.iterdir():
        if file.is_file():
            (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"cut off")
    for folder in (tmp_path, odd, broken):
        with pytest.raises(UnknownModel) as error:
            load_base(str(folder))
        assert is_one_sentence(str(error.value))


def test_4_bit_layers_keep_their_gradients_on_every_cpu(llama_folder: Path) -> None:
    """Also on those that compute in bf16, where bitsandbytes would choose a kernel without them."""
    base = load_base(str(llama_folder), "nf4")
    layers = [module for module in base.model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    with torch.no_grad():
        base.model(input_ids=torch.tensor([[5, 6, 7]]))
    assert layers and not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)
    x = torch.randn(2, layers[0].in_features, requires_grad=True)
    (gradient,) = torch.autograd.grad(layers[0](x).sum(), x)
    weight = bnb.functional.dequantize_4bit(layers[0].weight.data, layers[0].weight.quant_state)
    torch.testing.assert_close(gradient, weight.sum(0).expand(2, -1))


@pytest.mark.parametrize("training", [False, True])
def test_an_int8_layer_keeps_no_input_for_a_gradient_that_frozen_weights_never_have(
    llama_folder: Path, training: bool
) -> None:
    """bitsandbytes has one way for training on CPUs and one for all the rest; checkpointing reaches neither's input."""
    layer = load_base(str(llama_folder), "int8").model.model.layers[0].mlp.up_proj.train(training)
    given = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0)).requires_grad_()
    passed = given.clone()
    alive = weakref.ref(passed)
    out = layer(passed)
    del passed
    assert alive() is None
    (gradient,) = torch.autograd.grad(out.sum(), given)
    weights = layer.state.CB.float() * layer.state.SCB[:, None] / 127
    torch.testing.assert_close(gradient, weights.sum(0).expand(3, -1), rtol=1e-3, atol=1e-4)
