"""Tensors without data, so that a step can be executed for the memory it would take.

torch's FakeTensorMode follows shapes and types. A build of torch for the CPU refuses to index tensors that say they are on a
GPU ("not linked with support for cuda"), so all are on the CPU, and here is what a GPU does otherwise: its attention kernels
and products. Then there are answers to the few questions about data.
"""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations import moe

from trainer import attention, products, roles
from trainer.batches import Batch
from trainer.models import Base
from trainer.sharing import has_window

aten = torch.ops.aten

# Models whose answers to one prompt can stand in one row, as `sharing.can_share` finds by a trial, which asks for data.
SHARING = {"gpt_neox", "llama", "opt", "qwen2", "qwen3", "mistral", "smollm3"}

CASTS = logging.getLogger("bitsandbytes.autograd._functions")  # says at every int8 product that it casts its input

BEGINNING = 1  # the token that stands for those that all prompts begin with

ALIGNMENT = 16  # keys a row that the memory-efficient kernel wants its mask padded to


class FullRows(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Where a step asks for data: every mask is full, every number is 1, and no condition holds (rows are padded)."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "prim":
            return func(*args, **(kwargs or {}))
        if func is aten._local_scalar_dense.default:
            dtype = args[0].dtype
            return False if dtype == torch.bool else 1.0 if dtype.is_floating_point else 1
        if func is aten.nonzero.default:
            return args[0].new_zeros(args[0].numel(), args[0].dim(), dtype=torch.long)
        if func in {aten.index.Tensor, aten.index_put.default, aten._index_put_impl_.default, aten.index_put_.default}:
            args = (args[0], [i for index in args[1] for i in all_of(index)], *args[2:])
        return func(*args, **(kwargs or {}))


def all_of(index: Tensor | None) -> list[Tensor | None]:
    """An index as integers; a mask as those of all its elements."""
    if index is None or index.dtype not in {torch.bool, torch.uint8}:
        return [index]
    return [index.new_zeros(index.numel(), dtype=torch.long) for _ in range(index.dim())]


def gpu_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,  # noqa: ARG001 - taken as they are
) -> Tensor:  # fmt: skip
    """(rows, heads, queries, width) by the kernel that a GPU would take: flash attention without a mask, the memory-efficient
    one with a mask. A build of torch for the CPU would take the plain one, which holds all scores.

    torch turns a mask of booleans into one of numbers, and copies it where its rows are not aligned.
    """
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if attn_mask is None:
        found: Tensor = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[
            0
        ]
        return found
    mask = torch.empty_like(attn_mask, dtype=query.dtype) if attn_mask.dtype == torch.bool else attn_mask
    keys = mask.shape[-1]
    if keys % ALIGNMENT:
        mask = nn.functional.pad(mask, (0, -keys % ALIGNMENT))[..., :keys]
    mask = mask.expand(*query.shape[:3], keys)
    out: Tensor = aten._scaled_dot_product_efficient_attention(
        query, key, value, mask, needs_grad, dropout_p, is_causal, scale=scale
    )[0]
    return out


class GroupedProduct(torch.autograd.Function):
    """What a GPU's grouped product leaves: rows (S, in) by the frozen weights (experts, in, out) that they are sorted by.

    torch knows it without data in bf16 alone.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.width = weight.shape[1]
        return rows.new_empty(len(rows), weight.shape[2])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.new_empty(len(grad), ctx.width), None


def grouped_product(rows: Tensor, weight: Tensor, offs: Tensor) -> Tensor:  # noqa: ARG001 - where an expert's rows end
    """(S, out) in the place of transformers' own."""
    found: Tensor = GroupedProduct.apply(rows.to(weight.dtype), weight)  # type: ignore[no-untyped-call]
    return found


def move(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` for tensors without data, which torch cannot exchange in place."""
    for child in module.children() if recurse else ():
        move(child, change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            moved = change(parameter.detach())
            if moved.device != parameter.device or moved.dtype != parameter.dtype:
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


def shares(base: Base) -> bool:
    """What the trial would have found, and chosen; no for a model that is not known: its rows are then planned one by one."""
    config = base.model.config
    found = config.model_type in SHARING and not has_window(config)
    if found:
        config._attn_implementation = attention.NAME
    return found


def longest_prompt(batch: Batch) -> int:
    """Tokens of the longest prompt where all rows are full: what no answer of a row takes."""
    answers, length = batch.response_ids.shape
    rows, width = batch.input_ids.shape
    return width - answers // rows * length


def beginning(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, however few these are here: a rollout has many, and a pass of its own pays."""
    return next(i for i, token in enumerate(prompts[0]) if token != BEGINNING)


@contextmanager
def without_data(gpu: bool) -> Iterator[None]:
    """Within, tensors have no data, and with `gpu` the code takes the ways of a GPU. Modes that count go inside."""
    bnb.functional.quantize_blockwise(torch.ones(1))  # bitsandbytes keeps the table that it makes for this: a real one
    with ExitStack() as stack:
        stack.enter_context(patch.object(nn.Module, "_apply", move))
        stack.enter_context(patch.object(roles, "can_share", shares))
        stack.enter_context(patch.object(attention, "longest_prompt", longest_prompt))
        stack.enter_context(patch.object(roles, "common_prefix", beginning))
        stack.enter_context(patch.object(moe, "_grouped_mm", grouped_product))
        stack.enter_context(patch.object(CASTS, "disabled", True))
        if gpu:
            stack.enter_context(patch.object(products, "KNOWN", False))
            stack.enter_context(patch.object(attention, "groups_inside", lambda _: False))
            stack.enter_context(patch.object(nn.functional, "scaled_dot_product_attention", gpu_attention))
        stack.callback(gc.unfreeze)
        gc.freeze()  # what lives already need not be looked through again and again
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(FullRows())  # type: ignore[no-untyped-call]
        yield
