"""A model with fewer of its layers, and what a full one would take: memory grows in a straight line with their number."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from trainer.fake_base import empty_model
from trainer.tally import Peak

FEW = 2  # layers of the shallower model at the least, and how many more the deeper one has
WORTH_IT = 3  # times as many layers as the shallower one, or all are executed


def depth_of(config: PretrainedConfig) -> int:
    """How many layers it has (an encoder-decoder: in each half)."""
    return int(config.num_hidden_layers)


def depths(config: PretrainedConfig, exact: bool, least: int = 0) -> list[int]:
    """Numbers of layers to execute: two small ones, of at least so many; the model's own if `exact`, if it has few, or if
    its layers do not repeat."""
    whole = depth_of(config)
    halves_differ = config.is_encoder_decoder and config.num_decoder_layers != config.num_layers
    if exact or halves_differ or whole < WORTH_IT * FEW:
        return [whole]
    lead, period = pattern(kinds(config))
    few = lead + max(1, -(-(max(least, FEW) - lead) // period)) * period
    more = few + -(-FEW // period) * period
    return [whole] if whole < WORTH_IT * few else [few, more]


def kinds(config: PretrainedConfig) -> list[Any]:
    """What tells the layers of its largest stack apart: of which type they are said to be, and the sizes of their weights."""
    model = empty_model(config, "none", torch.float16)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    stack = max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters()))
    types = getattr(config, "layer_types", None) or [""] * len(stack)
    return [(types[i], [tuple(p.shape) for p in layer.parameters()]) for i, layer in enumerate(stack)]


def pattern(layers: Sequence[Any]) -> tuple[int, int]:
    """How many layers at the beginning are none of those that repeat, and after how many these do: as few as can be."""
    count = len(layers)
    found = (
        (lead, period)
        for lead in range(count)
        for period in range(1, count - lead + 1)
        if all(layers[i] == layers[i - period] for i in range(lead + period, count))
    )
    return min(found, key=sum)


def with_layers(config: PretrainedConfig, count: int) -> PretrainedConfig:
    """The same model with so many layers."""
    found = copy.deepcopy(config)
    found.num_hidden_layers = count
    if found.is_encoder_decoder:
        found.num_decoder_layers = count
    if getattr(found, "layer_types", None):
        found.layer_types = found.layer_types[:count]
    return found


def solved(peaks: list[Peak], executed: list[int], wanted: int) -> Peak:
    """The peak at `wanted` layers, from those at one or two numbers of them."""
    if len(peaks) == 1:
        return peaks[0]
    (low, high), (few, more) = peaks, executed
    times = (wanted - more) / (more - few)

    def extended(a: int, b: int) -> int:
        return round(b + (b - a) * times)

    parts = {part: extended(low.parts[part], high.parts[part]) for part in low.parts | high.parts}
    return Peak(extended(low.bytes, high.bytes), Counter({part: size for part, size in parts.items() if size > 0}))
