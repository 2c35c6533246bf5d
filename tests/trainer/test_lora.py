"""The fused layer against PEFT's formula, forward and backward."""

import pytest
import torch
from torch import nn

from tests.trainer.make import EXAMPLES, close, with_adapters
from trainer.lora import LoraLinear, adapter_delta, fuses
from trainer.models import Base, load_base


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 5, 8), (15, 8)])
def test_the_fused_layer_is_the_formula(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, a, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in (shape, (4, 8), (6, 4)))
    layer = nn.Linear(8, 6, bias=bias).double().requires_grad_(False)
    found = LoraLinear.apply(x, layer.weight, layer.bias, a, b, 0.5)
    expected = layer(x) + (x @ a.T @ b.T) * 0.5
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), (x, a, b)),
        torch.autograd.grad((expected * weights).sum(), (x, a, b)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradients_are_made_only_where_they_are_wanted() -> None:
    x = torch.randn(2, 8)
    a, b = nn.Parameter(torch.randn(4, 8)), torch.randn(6, 4)
    out = LoraLinear.apply(x, torch.randn(6, 8), None, a, b, 1.0)
    out.sum().backward()
    assert a.grad is not None and x.grad is None and b.grad is None


def test_only_plain_layers_of_one_precision_are_fused(base: Base, llama_folder: object) -> None:
    roles = with_adapters(base, "policy")
    layer, x = base.model.model.layers[0].self_attn.q_proj, torch.randn(2, 3, 64)
    assert fuses(layer, ["policy"], x)
    assert fuses(layer, ["policy", None], x)
    assert not fuses(layer, ["policy"], x.double())
    layer.lora_A["policy"].to(torch.float16)
    assert not fuses(layer, ["policy"], x)
    quantised = (
        with_adapters(load_base(str(llama_folder), "int8"), "policy").base.model.model.layers[0].self_attn.q_proj
    )
    assert not fuses(quantised, ["policy"], x)
    assert roles.names == {"policy"}


def test_a_16_bit_adapter_works_on_a_32_bit_base(base: Base) -> None:
    roles = with_adapters(base, "policy")
    batch = roles.collate(EXAMPLES)
    with torch.no_grad(), roles.routed("policy"):
        full = roles.response_states(batch)
        for parameter in roles.parameters("policy"):
            parameter.data = parameter.data.bfloat16()
        half = roles.response_states(batch)
    assert half.dtype == full.dtype == torch.float32
    assert not half.equal(full)
    assert close(half, full, 0.05)


def test_32_bit_adapters_are_masters_of_16_bit_ones(base: Base) -> None:
    """On a base that computes in 16 bits: nothing of the size of the input is kept in 32, and gradients come in 32."""
    layer = with_adapters(base, "policy").base.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["policy"].weight, layer.lora_B["policy"].weight
    x = torch.randn(3, 5, 64)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        half = adapter_delta(layer, "policy", x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert not [tensor for tensor in kept if tensor.dtype == torch.float32 and tensor.numel() >= x.numel()]
    whole = adapter_delta(layer, "policy", x)
    for found, expected in zip(
        torch.autograd.grad(half.float().sum(), (a, b)), torch.autograd.grad(whole.sum(), (a, b)), strict=True
    ):
        assert found.dtype == torch.float32
        assert close(found, expected, 0.05)
