"""Rotary positions, with fewer passes over memory than transformers' take on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Rotated(torch.autograd.Function):
    """x (..., d) with the pair of its numbers i and i + d/2 turned by the angle that `cos` and `sin` (..., d) have at both
    (arXiv 2104.09864, equation 34, with the pairs of GPT-NeoX)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return turned(grad, cos, sin, -1), None, None


def turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    """The rotation, or with `way` -1 the one that undoes it."""
    out = x * cos
    half = x.shape[-1] // 2
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-way)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=way)
    return out
