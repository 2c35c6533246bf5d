"""Root-mean-square norms of a frozen model, in half the passes over memory that transformers' take on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * w of x (..., width) and a frozen w (width,) (arXiv 1910.07467, equation 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        grad = grad * weight
        along = torch.linalg.vecdot(grad, x).unsqueeze(-1) * inverse**3 / x.shape[-1]
        return grad.mul_(inverse).addcmul_(x, along, value=-1), None, None
