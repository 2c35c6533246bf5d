"""Roles that read a lower layer: their rows leave the stack there and go on to the last norm, as in a model with no more
layers. Above it their rows are not run; in a pass beside rows that go on, they are carried along and nothing is taken of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from preferences.errors import RankloopError
from trainer.models import Base


def stack_of(base: Base) -> nn.ModuleList:
    """The decoder's layers, from the embeddings to the head."""
    model = base.model.decoder if base.is_encoder_decoder else base.model
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=lambda stack: sum(1 for _ in stack.parameters()))  # a layer may have a list of its own parts


def find_stack(model: nn.Module, stack: nn.ModuleList) -> tuple[nn.Module, str]:
    """The module that holds the stack of layers, and under which name."""
    return next(
        (module, name) for module in model.modules() for name, child in module.named_children() if child is stack
    )


def checked_layer(layer: Any, base: Base) -> int:
    """A layer's number, counted from 1 at the bottom. Raises RankloopError if the base has no such layer."""
    depth = len(stack_of(base))
    if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= depth:
        raise RankloopError(f"{base.id} has no layer {layer!r} to read; give one from 1 to {depth}.")
    return layer


@contextmanager
def leaving(base: Base, layers: Sequence[int | None], whole: bool) -> Iterator[None]:
    """Within, each of as many equal blocks of rows leaves after so many layers (None: after the last).

    Layers above all of them are not run, unless the `whole` stack must be.
    """
    stack = stack_of(base)
    after = [layer or len(stack) for layer in layers]
    top = len(stack) if whole else max(after)
    left: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            left[layer] = states_of(output)

        return hook

    def put_back(_module: Any, _args: Any, output: Any) -> Any:
        parts = [left.get(layer, states_of(output)).chunk(len(after))[i] for i, layer in enumerate(after)]
        states = torch.cat(parts)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    early = {layer for layer in after if layer < top}
    hooks = [stack[layer - 1].register_forward_hook(keep(layer)) for layer in sorted(early)]
    hooks += [stack[top - 1].register_forward_hook(put_back)] if early else []
    parent, name = find_stack(base.model, stack)
    setattr(parent, name, stack[:top])
    try:
        yield
    finally:
        setattr(parent, name, stack)
        for hook in hooks:
            hook.remove()


def states_of(output: Any) -> Tensor:
    """(rows, W, hidden) of what a layer returns."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
