"""Parts of a frozen model that run as one operation each, where it has 32 bits on a CPU."""

from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from trainer.gates import Gated
from trainer.norms import RootMeanSquare
from trainer.products import Product, on_cpu
from trainer.rotations import Rotated

# transformers' classes
NORMS = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "SmolLM3RMSNorm", "T5LayerNorm"}
GATES = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP", "SmolLM3MLP"}
ATTENTIONS = {"LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention", "SmolLM3Attention"}
ROTATION = "apply_rotary_pos_emb"  # the function that these attentions rotate queries and keys with


def quicken(model: Any) -> None:
    """Have norms, gates and rotations run as one operation each, and products as the quickest one; in other precisions and
    places they run as they were."""
    for module in model.modules():
        name = type(module).__name__
        if name == "Linear":  # torch's own, not one with quantised weights
            module.forward = partial(multiplied, module)
        elif name in NORMS:
            module.forward = partial(normed, module)
        elif name in GATES and type(module.act_fn) is SiLUActivation:
            module.forward = partial(gated, module)
        elif name in ATTENTIONS:
            module.forward = MethodType(with_rotation(type(module).forward), module)


def multiplied(layer: nn.Linear, x: Tensor) -> Tensor:
    """x (..., in) after a linear layer, (..., out)."""
    frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    quick = on_cpu(x) and layer.weight.dtype == torch.float32 and frozen
    found: Tensor = Product.apply(x, layer.weight, layer.bias) if quick else nn.Linear.forward(layer, x)  # type: ignore[no-untyped-call]
    return found


def normed(norm: Any, x: Tensor) -> Tensor:
    """x (..., width) after the norm."""
    quick = on_cpu(x) and norm.weight.dtype == torch.float32 and not norm.weight.requires_grad
    found: Tensor = (
        RootMeanSquare.apply(x, norm.weight, norm.variance_epsilon) if quick else type(norm).forward(norm, x)  # type: ignore[no-untyped-call]
    )
    return found


def gated(layer: Any, x: Tensor) -> Tensor:
    """x (..., width) after a gated feed-forward layer."""
    gate, up = layer.gate_proj(x), layer.up_proj(x)
    inner = Gated.apply(gate, up) if on_cpu(gate) else layer.act_fn(gate) * up  # type: ignore[no-untyped-call]
    found: Tensor = layer.down_proj(inner)
    return found


def with_rotation(forward: Any) -> Any:
    """An attention's own forward pass that rotates with `rotated`: a copy, so that transformers' modules stay as they are."""
    names = forward.__globals__
    known = names | {ROTATION: partial(rotated, names[ROTATION])}
    return FunctionType(forward.__code__, known, forward.__name__, forward.__defaults__, forward.__closure__)


def rotated(
    own: Callable[..., tuple[Tensor, Tensor]], q: Tensor, k: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """Queries and keys (rows, heads, T, d) turned by the angles of their positions; cos and sin (rows, T, d)."""
    if not on_cpu(q) or not on_cpu(cos):
        return own(q, k, cos, sin)
    cos, sin = cos[:, None], sin[:, None]
    return Rotated.apply(q, cos, sin), Rotated.apply(k, cos, sin)  # type: ignore[no-untyped-call]
