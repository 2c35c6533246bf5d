"""Norms, gates, rotations and products in one operation each against transformers' own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5LayerNorm

from trainer.gates import Gated
from trainer.models import load_base
from trainer.norms import RootMeanSquare
from trainer.quick import quicken, rotated
from trainer.rotations import Rotated

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
SIZES: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "no_rope_layers": [1, 0],
}  # fmt: skip


@pytest.mark.parametrize("kind", [LlamaRMSNorm, T5LayerNorm])
def test_a_norm_in_one_operation_gives_the_same_states_and_gradients(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    norm = kind(24).double().requires_grad_(False)
    norm.weight.uniform_(-2, 2)
    norm.variance_epsilon = 0.3
    x = torch.randn(3, 5, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: RootMeanSquare.apply(y, norm.weight, 0.3), x)
    x = x.float().detach().requires_grad_()
    norm.float()
    expected = norm(x)
    quicken(norm)
    found = norm(x)
    assert type(found.grad_fn).__name__ == "RootMeanSquareBackward"
    torch.testing.assert_close(found, expected)
    weights = torch.randn(x.shape)
    torch.testing.assert_close(*(torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected)))


def test_gates_and_rotations_in_one_operation_have_the_gradients_of_what_they_are() -> None:
    torch.manual_seed(0)
    x, y = (torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True) for _ in "xy")
    assert torch.autograd.gradcheck(Gated.apply, (x, y))
    torch.testing.assert_close(Gated.apply(x, y), nn.functional.silu(x) * y)
    angles = torch.randn(2, 1, 5, 4, dtype=torch.float64).repeat(1, 1, 1, 2)
    assert torch.autograd.gradcheck(lambda z: Rotated.apply(z, angles.cos(), angles.sin()), x)
    expected, _ = apply_rotary_pos_emb(x, y, angles[:, 0].cos(), angles[:, 0].sin())
    torch.testing.assert_close(Rotated.apply(x, angles.cos(), angles.sin()), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_quickened_model_has_the_states_and_gradients_of_the_same_model(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES)).requires_grad_(False).eval()
    x = torch.randn(2, 7, 16, requires_grad=True)

    def both() -> tuple[Tensor, Tensor, set[str]]:
        states = model.model(inputs_embeds=x).last_hidden_state
        names, waiting = set(), [states.grad_fn]
        while waiting:
            step = waiting.pop()
            names.add(type(step).__name__)
            waiting += [one for one, _ in step.next_functions if one is not None]
        return states, torch.autograd.grad((states * torch.arange(16)).sum(), x)[0], names

    states, gradient, names = both()
    quicken(model)
    quick_states, quick_gradient, quick_names = both()
    torch.testing.assert_close((quick_states, quick_gradient), (states, gradient))
    made = {"RootMeanSquareBackward", "GatedBackward", "RotatedBackward", "ProductBackward"}
    assert not made & names
    assert made <= quick_names


def test_in_16_bits_and_with_weights_that_are_trained_they_run_as_they_were() -> None:
    for norm in (LlamaRMSNorm(8).bfloat16().requires_grad_(False), LlamaRMSNorm(8)):
        x = torch.randn(2, 8, requires_grad=True, dtype=norm.weight.dtype)
        expected = norm(x)
        quicken(norm)
        assert norm(x).equal(expected) and type(norm(x).grad_fn).__name__ == "MulBackward0"
    for linear in (nn.Linear(8, 6).bfloat16().requires_grad_(False), nn.Linear(8, 6)):
        x = torch.randn(2, 8, requires_grad=True, dtype=linear.weight.dtype)
        quicken(linear)
        assert type(linear(x).grad_fn).__name__ == "AddmmBackward0"
    layer = LlamaMLP(AutoConfig.for_model("llama", **SIZES)).bfloat16().requires_grad_(False)
    x = torch.randn(2, 16, requires_grad=True, dtype=torch.bfloat16)
    expected = layer(x)
    quicken(layer)
    assert layer(x).equal(expected)
    q, k, angles = (torch.randn(1, 2, 5, 8).bfloat16() for _ in "qka")
    mine = rotated(apply_rotary_pos_emb, q, k, angles[:, 0].cos(), angles[:, 0].sin())
    assert all(
        a.equal(b)
        for a, b in zip(mine, apply_rotary_pos_emb(q, k, angles[:, 0].cos(), angles[:, 0].sin()), strict=True)
    )


def test_other_activations_keep_their_gate() -> None:
    torch.manual_seed(0)
    layer = LlamaMLP(AutoConfig.for_model("llama", **SIZES, hidden_act="gelu"))
    x = torch.randn(2, 16)
    expected = layer(x)
    quicken(layer)
    assert layer(x).equal(expected)


def test_a_frozen_base_is_quickened(llama_folder: Path, t5_folder: Path) -> None:
    of_llama = {"LlamaRMSNorm": 5, "LlamaMLP": 2, "LlamaAttention": 2, "Linear": 15}
    for folder, kinds in ((llama_folder, of_llama), (t5_folder, None)):
        model = load_base(str(folder), "none").model
        found = [type(module).__name__ for module in model.modules() if "forward" in vars(module)]
        assert (
            set(found) == {"T5LayerNorm", "Linear"}
            if kinds is None
            else {name: found.count(name) for name in set(found)} == kinds
        )
