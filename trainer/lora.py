"""The forward of one LoRA layer with every block of rows under its own adapter."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.products import product


class LoraLinear(torch.autograd.Function):
    """x W^T + b + scale (x A^T) B^T on a frozen W, with fewer passes over memory than the separate operations.

    x (..., in); W (out, in); b (out,) or None; A (r, in); B (out, r). Gradients for x, A and B (arXiv 2106.09685, eq. 3).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down = (rows @ a.T).mul_(scale)
        out = product(rows, weight, bias).addmm_(down, b.T)
        ctx.save_for_backward(rows, down, weight, a, b)
        ctx.scale = scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, down, weight, a, b = ctx.saved_tensors
        shape, grad = grad.shape, grad.reshape(-1, grad.shape[-1])
        up = (grad @ b).mul_(ctx.scale)
        for_x = for_a = for_b = None
        if ctx.needs_input_grad[0]:
            for_x = product(grad, weight.T).addmm_(up, a).view(*shape[:-1], -1)
        if ctx.needs_input_grad[3]:
            for_a = up.T @ rows
        if ctx.needs_input_grad[4]:
            for_b = (down.T @ grad).T
        return for_x, None, None, for_a, for_b, None


def routed_forward(layer: Any, roles: Sequence[str], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The layer's output with `x` (rows, ...) in as many equal blocks of rows as there are `roles`, each under its adapter.

    A role that the layer has no adapter for runs the plain base there. Nothing is changed in place: outputs of int8 and nf4
    layers are views.
    """
    known = [role if role in layer.lora_A else None for role in roles]
    if not any(known):
        out: Tensor = layer.base_layer(x, *args, **kwargs)
        return out
    fused = fuses(layer, known, x)
    if fused and not torch.is_grad_enabled():
        return with_adapters(layer, known, x)
    blocks = x.chunk(len(roles)) if len(roles) > 1 else (x,)
    if fused:
        parts = [block_forward(layer, role, block) for role, block in zip(known, blocks, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    out = layer.base_layer(x, *args, **kwargs)
    deltas = [
        adapter_delta(layer, role, block).to(out.dtype) if role else block.new_zeros(*block.shape[:-1], out.shape[-1])
        for role, block in zip(known, blocks, strict=True)
    ]
    return out + (deltas[0] if len(deltas) == 1 else torch.cat(deltas)).to(out.dtype)


def fuses(layer: Any, roles: Sequence[str | None], x: Tensor) -> bool:
    """Whether one matrix product after the other can be added up in place: an unquantised layer in one precision."""
    same = all(layer.lora_A[role].weight.dtype == x.dtype for role in roles if role)
    return type(layer.base_layer) is nn.Linear and layer.base_layer.weight.dtype == x.dtype and same


def with_adapters(layer: Any, roles: Sequence[str | None], x: Tensor) -> Tensor:
    """All blocks of rows through an unquantised layer at once, without gradients: then what each adapter adds, in place."""
    rows = x.reshape(-1, x.shape[-1])
    out = product(rows, layer.base_layer.weight, layer.base_layer.bias)
    for role, given, made in zip(roles, rows.chunk(len(roles)), out.chunk(len(roles)), strict=True):
        if role is not None:
            a, b = layer.lora_A[role].weight, layer.lora_B[role].weight
            made.addmm_(given @ a.T, b.T, alpha=layer.scaling[role])
    return out.view(*x.shape[:-1], -1)


def folded_forward(layer: Any, role: str) -> Callable[[Tensor], Tensor]:
    """An unquantised layer with the role's adapter in a copy of its weight: W + scale B A (arXiv 2106.09685, section 4.1).

    The copy (in, out) lies as a product of few rows reads it fastest.
    """
    base, a, b = layer.base_layer, layer.lora_A[role].weight, layer.lora_B[role].weight
    weight = torch.addmm(base.weight.T, a.T, b.T, alpha=layer.scaling[role]).T
    return lambda x: product(x, weight, base.bias)


def block_forward(layer: Any, role: str | None, x: Tensor) -> Tensor:
    """One block of rows through an unquantised layer."""
    base = layer.base_layer
    if role is None:
        plain: Tensor = base(x)
        return plain
    a, b = layer.lora_A[role].weight, layer.lora_B[role].weight
    out: Tensor = LoraLinear.apply(x, base.weight, base.bias, a, b, layer.scaling[role])  # type: ignore[no-untyped-call]
    return out


def adapter_delta(layer: Any, role: str, x: Tensor) -> Tensor:
    """What LoRA adds for one role: B(A(x) * scale), in x's precision, whatever the adapter's weights are kept in.

    So weights in 32 bits are the masters of a 16-bit adapter, and no activation is kept in 32 bits for its gradient.
    """
    a, b = (linears[role].weight.to(x.dtype) for linears in (layer.lora_A, layer.lora_B))
    down = nn.functional.linear(x, a) * layer.scaling[role]
    return nn.functional.linear(down, b)
