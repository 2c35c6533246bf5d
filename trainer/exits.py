"""Roles that read a lower layer: their rows leave the stack there and go on to the last norm, as in a model with no more
layers. Above it their rows are not run; in a pass beside rows that go on, they are carried along and nothing is taken of it.
A role that reads several layers gets the mean of their states, each divided by its root mean square (as in ELMo, Peters et
al. 2018, arXiv 1802.05365, equation 1, with equal weights).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from preferences.errors import RankloopError
from trainer.models import Base

Layers = tuple[int, ...]  # numbers of layers, counted from 1 at the bottom; () for the last

TINY = 1e-6  # so that a state of zeros, as padding may have, stays one


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


def named_layers(layers: Any) -> Layers:
    """What a run or a card names, in whatever form: several layers, one by its number alone, or None for the last."""
    return () if layers is None else tuple(layers) if isinstance(layers, list | tuple) else (layers,)


def checked_layers(layers: Any, base: Base) -> Layers:
    """The layers that a run or a card names, in order; () for the last.

    Raises RankloopError if the base has no such layer, or if one is named twice.
    """
    depth, named = len(stack_of(base)), named_layers(layers)
    for layer in named:
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= depth:
            raise RankloopError(f"{base.id} has no layer {layer!r} to read; give one from 1 to {depth}.")
    if len(set(named)) < len(named):
        raise RankloopError(f"Of the layers {', '.join(map(str, named))} one is named twice; give each once.")
    return () if named == (depth,) else tuple(sorted(named))


@contextmanager
def leaving(base: Base, layers: Sequence[Layers], whole: bool) -> Iterator[None]:
    """Within, each of as many equal blocks of rows leaves after the last of its layers, counted from 1 at the bottom (none:
    after the last of all), with the mean of their states if they are several.

    Layers above all of them are not run, unless the `whole` stack must be.
    """
    stack = stack_of(base)
    after = [of_block or (len(stack),) for of_block in layers]
    numbers = {layer for of_block in after for layer in of_block}
    top = len(stack) if whole else max(numbers)
    left: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            left[layer] = states_of(output)

        return hook

    def put_back(_module: Any, _args: Any, output: Any) -> Any:
        parts = [
            mixed([left.get(layer, states_of(output)).chunk(len(after))[i] for layer in of_block])
            for i, of_block in enumerate(after)
        ]
        states = torch.cat(parts)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    early = {layer for layer in numbers if layer < top}
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


def mixed(states: Sequence[Tensor]) -> Tensor:
    """(rows, W, hidden): the states of one layer as they are; of several the mean, each over its root mean square."""
    if len(states) == 1:
        return states[0]
    same_size = [nn.functional.rms_norm(x.float(), x.shape[-1:], eps=TINY) for x in states]
    return torch.stack(same_size).mean(0).to(states[0].dtype)


def states_of(output: Any) -> Tensor:
    """(rows, W, hidden) of what a layer returns."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states
