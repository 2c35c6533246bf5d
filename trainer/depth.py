"""A model with fewer of its layers, and what a full one would take: memory grows in a straight line with their number."""

import copy
from collections import Counter

from transformers import PretrainedConfig

from trainer.tally import Peak

FEW = 2  # layers of the shallower model, the deeper one has twice as many
WORTH_IT = 3  # times as many layers as both together, or all are executed


def depth_of(config: PretrainedConfig) -> int:
    """How many layers it has (an encoder-decoder: in each half)."""
    return int(config.num_hidden_layers)


def depths(config: PretrainedConfig, exact: bool, least: int = 0) -> list[int]:
    """Numbers of layers to execute: two small ones, of at least so many; the model's own if `exact`, if it has few, or if
    they are not alike."""
    period = pattern(config)
    step = max(period, FEW)
    few = max(step, -(-least // step) * step)
    halves_differ = config.is_encoder_decoder and config.num_decoder_layers != config.num_layers
    if exact or halves_differ or depth_of(config) < WORTH_IT * few or period == depth_of(config):
        return [depth_of(config)]
    return [few, few + step]


def pattern(config: PretrainedConfig) -> int:
    """After how many layers their kinds repeat."""
    kinds = getattr(config, "layer_types", None) or ["same"] * depth_of(config)
    return next(n for n in range(1, len(kinds) + 1) if all(kinds[i] == kinds[i % n] for i in range(len(kinds))))


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
