"""Products with the frozen weights of a model in 32 bits on a CPU, which oneDNN finds faster than torch's own."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

KNOWN: bool = torch._C._has_mkldnn  # whether this torch has oneDNN


class Product(torch.autograd.Function):
    """x W^T + b (..., out) of x (..., in), a frozen W (out, in), and a frozen b (out,) or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return product(grad, weight.T), None, None


def on_cpu(x: Tensor) -> bool:
    """Whether x has 32 bits on a CPU."""
    return x.dtype == torch.float32 and x.device.type == "cpu"


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b (..., out) of x (..., in), W (out, in) and b (out,), without gradients."""
    if KNOWN and on_cpu(x):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return torch.nn.functional.linear(x, weight, bias)
