"""The routed forward against plain PEFT, one adapter at a time; saving, loading and refusing."""

import json
import shutil
from pathlib import Path

import bitsandbytes
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn

from preferences.run_files import CARD
from tests.tiny import save, save_tiny_llama, tiny_tokenizer
from tests.trainer.make import (
    EXAMPLES,
    close,
    is_one_sentence,
    linears,
    plain_logits,
    plain_peft,
    randomise,
    routed_logits,
    with_adapters,
)
from trainer.models import Base, load_base
from trainer.roles import HEAD, Roles, WrongAdapter, lora_config

BLOCKS = ("policy", "policy", "base", "value", "value", "reward")  # the role of each of EXAMPLES
BASES = [(family, quantization) for family in ("llama", "t5") for quantization in ("none", "int8", "nf4")]
LINEARS = {"none": nn.Linear, "int8": bitsandbytes.nn.Linear8bitLt, "nf4": bitsandbytes.nn.Linear4bit}


@pytest.fixture(params=BASES, ids="-".join)
def any_base(request: pytest.FixtureRequest, llama_folder: Path, t5_folder: Path) -> Base:
    """Both families, as they are and quantised."""
    family, quantization = request.param
    return load_base(str({"llama": llama_folder, "t5": t5_folder}[family]), quantization)


def test_the_linears_are_what_the_quantisation_says(any_base: Base) -> None:
    """But for T5's `wo`, which transformers never quantises."""
    kinds = {type(m) for name, m in linears(any_base.model).items() if not name.endswith(".wo")}
    assert kinds == {LINEARS[any_base.quantization]}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_mixed_batch_equals_plain_peft_role_by_role(any_base: Base, tmp_path: Path, checkpointing: bool) -> None:
    """Forward, and the gradients of every adapter."""
    roles = with_adapters(any_base, "policy", "reward", "value")
    plain = plain_peft(roles, tmp_path)
    roles.train_only("policy", "reward", "value")
    batch = roles.collate(EXAMPLES)
    weights = torch.randn(6, 7, len(any_base.tokenizer), generator=torch.Generator().manual_seed(0))
    with roles.checkpointed(checkpointing), roles.routed(*BLOCKS):
        logits = roles.logits(roles.response_states(batch))
        (logits * weights).sum().backward()
    for i, role in enumerate(BLOCKS):
        rows = slice(i, i + 1)
        if role == "base":
            with plain.disable_adapter():
                assert close(logits[rows], plain_logits(plain, batch, rows))
            continue
        plain.set_adapter(role)
        expected = plain_logits(plain, batch, rows)
        assert close(logits[rows], expected)
        (expected * weights[rows]).sum().backward()
    assert roles.peft is not None
    found = {name: p.grad for name, p in roles.peft.named_parameters() if p.grad is not None}
    expected_grads = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    assert set(found) == set(expected_grads)
    assert {role for role in roles.names if any(f".{role}." in name for name in found)} == roles.names
    for name, gradient in found.items():
        largest = expected_grads[name].abs().max()
        assert largest > 0 and (gradient - expected_grads[name]).abs().max() <= 1e-3 * largest, name


def test_the_roles_differ(base: Base) -> None:
    """Or the comparison above would prove nothing."""
    roles = with_adapters(base, "policy", "value")
    batch = roles.collate(EXAMPLES)
    policy, value, plain = (routed_logits(roles, batch, role) for role in ("policy", "value", "base"))
    assert (policy - value).abs().max() > 0.1
    assert (policy - plain).abs().max() > 0.1


def test_gradient_checkpointing_changes_no_gradient(base: Base) -> None:
    roles = with_adapters(base, "policy", "value")
    roles.train_only("policy", "value")
    batch, gradients = roles.collate(EXAMPLES), []
    for checkpointing in (False, True):
        if checkpointing:
            base.model.gradient_checkpointing_enable({"use_reentrant": False})
            base.model.train()
        with roles.routed("policy", "value"):
            roles.logits(roles.response_states(batch)).square().sum().backward()
        gradients.append([p.grad.clone() for role in ("policy", "value") for p in roles.parameters(role)])
        roles.peft.zero_grad()
    assert all(close(a, b, 1e-5) for a, b in zip(*gradients, strict=True))
    assert base.model.model.layers[0].gradient_checkpointing


def test_a_role_that_a_layer_does_not_have_adds_nothing_there(base: Base, tmp_path: Path) -> None:
    roles = with_adapters(base, "policy")
    roles.add("small", LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    randomise(roles, "small", 9)
    layer, x = base.model.model.layers[0].self_attn.k_proj, torch.randn(2, 3, 64)
    with torch.no_grad():
        plain = layer.base_layer(x)
        with roles.routed("small"):
            assert layer(x).equal(plain)
        with roles.routed("small", "policy"):
            mixed = layer(x)
    assert close(mixed[0], plain[0], 1e-6)
    assert not mixed[1].allclose(plain[1])
    batch, peft = roles.collate(EXAMPLES), plain_peft(roles, tmp_path)
    mixed = routed_logits(roles, batch, "small", "policy")
    for role, rows in (("small", slice(0, 3)), ("policy", slice(3, 6))):
        peft.set_adapter(role)
        assert close(mixed[rows], plain_logits(peft, batch, rows))


def test_an_exception_inside_leaves_the_route_as_it_was(base: Base) -> None:
    roles = with_adapters(base, "policy", "value")
    batch = roles.collate(EXAMPLES)
    expected = routed_logits(roles, batch, "policy")

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    with torch.no_grad(), roles.routed("policy"):
        before = roles.route
        hook = base.model.model.layers[1].mlp.register_forward_hook(fail)
        with pytest.raises(MemoryError), roles.routed("value", "policy"):
            roles.response_states(batch)
        hook.remove()
        assert roles.route == before
        assert roles.logits(roles.response_states(batch)).equal(expected)
    assert roles.route == ("base",)


@pytest.mark.parametrize("call", [1, 2], ids=["forward", "again"])
def test_an_exception_with_checkpointing_leaves_nothing_behind(base: Base, call: int) -> None:
    """In the forward pass, or where the backward pass does it again."""
    roles = with_adapters(base, "policy", "value")
    roles.train_only("policy", "value")
    batch, calls, parameters = roles.collate(EXAMPLES), [], [*roles.parameters("policy"), *roles.parameters("value")]

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == call:
            raise MemoryError("no room")

    def gradients() -> tuple[torch.Tensor, ...]:
        with roles.checkpointed(), roles.routed("policy", "value"):
            return torch.autograd.grad(roles.response_states(batch).square().sum(), parameters)

    expected = gradients()
    hook = base.model.model.layers[1].self_attn.register_forward_hook(fail)
    with pytest.raises(MemoryError):
        gradients()
    hook.remove()
    assert len(calls) == call and roles.route == ("base",)
    assert not any(layer.training for layer in base.model.model.layers)
    assert all(one.equal(other) for one, other in zip(gradients(), expected, strict=True))


@torch.no_grad()
def test_a_folded_adapter_is_in_copies_of_the_weights(base: Base) -> None:
    """What the adapter says meanwhile no longer counts; afterwards it does again, and the base is as it was."""
    roles = with_adapters(base, "policy", "value")
    batch, layer = roles.collate(EXAMPLES), base.model.model.layers[0].self_attn.q_proj
    weight, expected, plain = (
        layer.weight.clone(),
        routed_logits(roles, batch, "policy"),
        routed_logits(roles, batch, "base"),
    )
    with pytest.raises(MemoryError), roles.routed("policy"), roles.folded():
        for parameter in roles.parameters("policy"):
            parameter.zero_()
        assert close(roles.logits(roles.response_states(batch)), expected, 1e-5)
        raise MemoryError
    assert routed_logits(roles, batch, "policy").equal(plain) and layer.weight.equal(weight)


@torch.no_grad()
@pytest.mark.parametrize("why", ["int8", "small"])
def test_what_would_round_otherwise_or_take_much_room_is_not_folded(
    why: str, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = with_adapters(load_base(str(llama_folder), "int8" if why == "int8" else "none"), "policy")
    if why == "small":
        monkeypatch.setattr("trainer.roles.FOLDED", 1000)
    batch = roles.collate(EXAMPLES)
    before = routed_logits(roles, batch, "policy")
    with roles.routed("policy"), roles.folded():
        assert roles.logits(roles.response_states(batch)).equal(before)
        for parameter in roles.parameters("policy"):
            parameter.zero_()
        assert not close(roles.logits(roles.response_states(batch)), before)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_states_and_logits_are_the_models_own_without_padding(family: str, llama_folder: Path, t5_folder: Path) -> None:
    """Each row alone through the model, by the definition of a state: the prefix goes in, the next token comes out."""
    base = load_base(str({"llama": llama_folder, "t5": t5_folder}[family]), "none")
    roles = Roles(base)
    found = routed_logits(roles, roles.collate(EXAMPLES), "base")
    for i, example in enumerate(EXAMPLES):
        prompt, response = torch.tensor([example.prompt]), torch.tensor([example.response])
        with torch.no_grad():
            if family == "t5":
                start = torch.tensor([[base.model.config.decoder_start_token_id]])
                logits = base.model(input_ids=prompt, decoder_input_ids=torch.cat([start, response], 1)).logits[0]
            else:
                logits = base.model(input_ids=torch.cat([prompt, response], 1)).logits[0, len(example.prompt) - 1 :]
        n = len(example.response)
        assert len(logits) == n + 1
        assert close(found[i, : n + 1], logits)
        assert close(found[i, n:], logits[-1:].expand(len(found[i, n:]), -1))


def test_tied_t5_scales_its_states(tmp_path: Path) -> None:
    """The original T5 shares embeddings and head, and multiplies by width ** -0.5 in between; v1.1 and Flan do not."""
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4, tie_word_embeddings=True,
        decoder_start_token_id=0, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    base = load_base(str(save(T5ForConditionalGeneration(config), tokenizer, tmp_path)), "none")
    roles = Roles(base)
    batch = roles.collate(EXAMPLES)
    with torch.no_grad():
        expected = plain_logits(base.model, batch)
    assert close(routed_logits(roles, batch, "base"), expected)


def test_a_new_role_changes_nothing(any_base: Base) -> None:
    roles = Roles(any_base)
    before = routed_logits(roles, roles.collate(EXAMPLES), "base")
    roles.add("policy", lora_config(any_base, 4, 8))
    assert routed_logits(roles, roles.collate(EXAMPLES), "policy").equal(before)
    assert not roles.add_head("policy")(torch.randn(3, roles.hidden_size)).any()
    assert roles.names == {"policy"}
    assert roles.heads["policy"].weight.dtype == torch.float32


def test_plain_peft_answers_like_the_saved_role(any_base: Base, tmp_path: Path) -> None:
    roles = with_adapters(any_base, "policy")
    plain, batch = plain_peft(roles, tmp_path), roles.collate(EXAMPLES)
    with torch.no_grad():
        assert close(routed_logits(roles, batch, "policy"), plain_logits(plain, batch))
    prompt = {"input_ids": torch.tensor([[20, 21, 22]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with roles.routed("policy"):
        expected = any_base.model.generate(**prompt, do_sample=False, max_new_tokens=6)
    assert plain.generate(**prompt, do_sample=False, max_new_tokens=6).equal(expected)
    assert not any_base.model.generate(**prompt, do_sample=False, max_new_tokens=6).equal(expected)


def test_save_and_load(base: Base, tmp_path: Path) -> None:
    """Adapter, head and card come back; what is on disk says whose it is."""
    roles = with_adapters(base, "policy", "reward", heads=["reward"])
    roles.save("reward", tmp_path, {"kind": "reward", "mean": 0.25})
    assert roles.peft.peft_config["reward"].inference_mode is False
    again = Roles(load_base(base.id, "none"))
    card = again.load("judge", tmp_path)
    assert card == {**base.identity, "kind": "reward", "mean": 0.25}
    assert json.loads((tmp_path / CARD).read_text()) == card
    pairs = list(zip(roles.parameters("reward"), again.parameters("judge"), strict=True))
    assert len(pairs) == 2 * 14 + 2
    assert all(a.equal(b) for a, b in pairs)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base.id
    assert config["inference_mode"] is True
    assert set(load_file(tmp_path / HEAD)) == {"weight", "bias"}


def test_a_role_without_a_head_saves_none(base: Base, tmp_path: Path) -> None:
    roles = with_adapters(base, "policy")
    roles.save("policy", tmp_path, {})
    assert not (tmp_path / HEAD).exists()
    roles.load("again", tmp_path)
    assert not roles.heads


@pytest.fixture
def saved(base: Base, tmp_path: Path) -> Path:
    """A policy's folder."""
    with_adapters(base, "policy").save("policy", tmp_path / "saved", {})
    return tmp_path / "saved"


def refusal(base: Base, folder: Path) -> str:
    """What loading says, having loaded nothing."""
    roles = Roles(base)
    with pytest.raises(WrongAdapter) as error:
        roles.load("policy", folder)
    assert is_one_sentence(str(error.value))
    assert not roles.names
    return str(error.value)


def test_another_base_is_refused(base: Base, saved: Path, tmp_path: Path) -> None:
    other = str(save_tiny_llama(tmp_path / "other", seed=1))
    message = refusal(load_base(other, "none"), saved)
    assert f"base {base.id!r}" in message
    assert repr(other) in message


def test_another_quantisation_is_refused(base: Base, saved: Path) -> None:
    message = refusal(load_base(base.id, "int8"), saved)
    assert "quantization 'none'" in message and "'int8'" in message


def test_a_quantisation_with_other_numbers_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    base = load_base(str(llama_folder), "int8")
    with_adapters(base, "policy").save("policy", tmp_path, {})
    rewrite(tmp_path, quantization_config={"llm_int8_threshold": 6.0})
    message = refusal(load_base(base.id, "int8"), tmp_path)
    assert "{'llm_int8_threshold': 6.0}" in message and "{'llm_int8_threshold': 0.0}" in message


def test_other_weights_in_the_same_place_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    first = load_base(str(folder), "none")
    with_adapters(first, "policy").save("policy", tmp_path / "saved", {})
    other = load_base(str(save_tiny_llama(folder, seed=1)), "none")
    assert (other.id, other.tokenizer_hash) == (first.id, first.tokenizer_hash)
    message = refusal(other, tmp_path / "saved")
    assert repr(first.weights) in message and repr(other.weights) in message and str(folder) in message


def test_the_same_weights_in_another_place_are_taken(base: Base, saved: Path, tmp_path: Path) -> None:
    shutil.copytree(base.id, tmp_path / "elsewhere")
    assert Roles(load_base(str(tmp_path / "elsewhere"), "none")).load("policy", saved)["base"] == base.id
    assert "quantization 'none'" in refusal(load_base(str(tmp_path / "elsewhere"), "nf4"), saved)


def test_an_adapter_that_says_nothing_of_its_weights_is_known_by_its_bases_name(
    base: Base, saved: Path, tmp_path: Path
) -> None:
    """As those are that were made before."""
    rewrite(saved, weights=None, quantization_config=None)
    assert set(json.loads((saved / CARD).read_text())) == {"base", "quantization", "tokenizer"}
    assert Roles(load_base(base.id, "none")).load("policy", saved)
    shutil.copytree(base.id, tmp_path / "elsewhere")
    assert f"base {base.id!r}" in refusal(load_base(str(tmp_path / "elsewhere"), "none"), saved)


def rewrite(folder: Path, **fields: object) -> None:
    """Say something else on an adapter's card, or nothing of what is None."""
    card = {**json.loads((folder / CARD).read_text()), **fields}
    (folder / CARD).write_text(json.dumps({name: value for name, value in card.items() if value is not None}))


def test_another_tokenizer_is_refused(base: Base, saved: Path) -> None:
    other = load_base(base.id, "none")
    other.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert "tokenizer" in refusal(other, saved)


@pytest.mark.parametrize("missing", [CARD, "adapter_model.safetensors"])
def test_a_folder_that_lacks_something_is_refused(base: Base, saved: Path, missing: str) -> None:
    (saved / missing).unlink()
    assert "holds no rankloop adapter" in refusal(load_base(base.id, "none"), saved)


def test_weights_for_layers_that_the_base_lacks_are_refused(base: Base, saved: Path) -> None:
    state = load_file(saved / "adapter_model.safetensors")
    name = next(iter(state))
    state[name.replace("layers.0", "layers.7")] = state[name].clone()
    save_file(state, saved / "adapter_model.safetensors")
    with pytest.raises(WrongAdapter, match="does not fit"):
        Roles(load_base(base.id, "none")).load("policy", saved)


def test_a_copy_equals_its_source_and_lives_on_its_own(base: Base) -> None:
    roles = with_adapters(base, "reward", heads=["reward"])
    batch = roles.collate(EXAMPLES)
    roles.copy("reward", "value")
    before = routed_logits(roles, batch, "reward")
    assert routed_logits(roles, batch, "value").equal(before)
    source, copied = roles.heads["reward"], roles.heads["value"]
    assert source.weight.equal(copied.weight)
    assert source.bias.equal(copied.bias)
    randomise(roles, "value", 7)
    assert routed_logits(roles, batch, "reward").equal(before)
    assert not routed_logits(roles, batch, "value").allclose(before)
    assert not source.weight.equal(copied.weight)


def test_train_only_trains_these_roles_and_nothing_else(base: Base) -> None:
    roles = with_adapters(base, "policy", "reward", "value", heads=["reward", "value"])
    roles.train_only("reward")
    roles.train_only("policy", "value")
    assert roles.peft is not None
    heads = {f"head.{role}.{name}": p for role, head in roles.heads.items() for name, p in head.named_parameters()}
    trained = {n for n, p in (*roles.peft.named_parameters(), *heads.items()) if p.requires_grad}
    expected = {n for n, _ in roles.peft.named_parameters() if ".policy." in n or ".value." in n}
    assert trained == expected | {"head.value.weight", "head.value.bias"}
    assert len(expected) == 2 * 2 * 14  # A and B of two roles, on seven linears in each of two layers
    assert len(roles.parameters("policy")) == 28
    assert len(roles.parameters("value")) == 30


def test_adapters_have_no_dropout_and_spare_the_head(any_base: Base) -> None:
    roles = with_adapters(any_base, "policy")
    wrapped = {name.removesuffix(".base_layer") for name in linears(any_base.model)}
    assert {name for name, module in any_base.model.named_modules() if hasattr(module, "lora_A")} == wrapped
    config = roles.peft.peft_config["policy"]
    assert (config.lora_dropout, config.r, config.lora_alpha) == (0, 4, 8)
    assert not any(isinstance(m, nn.Dropout) and m.p and m.training for m in any_base.model.modules())


def test_an_unknown_role_is_the_programmers_mistake(base: Base) -> None:
    """Else a typing error would quietly train or sample the plain base."""
    roles = Roles(base)
    roles.add("policy", lora_config(base, 4, 8))
    with pytest.raises(AssertionError, match="'polcy'"), roles.routed("policy", "polcy"):
        pass


def test_a_broken_card_is_one_sentence(base: Base, saved: Path) -> None:
    (saved / CARD).write_text("{")
    with pytest.raises(WrongAdapter, match="not valid JSON"):
        Roles(base).load("policy", saved)
