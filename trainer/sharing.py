"""Several answers in one row behind their prompt: which models can, found by trying."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from trainer.attention import NAME, Spans
from trainer.batches import Batch, Example, collate
from trainer.models import Base

PROBE = (Example([5, 6, 7], [8, 9]), Example([5, 6, 7], [10, 11, 12]))
TOLERANCE = 1e-3  # relative to the largest state: a model that reads the mask otherwise is off by far more


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first tokens of all prompts, read once: their keys and values for each block of rows, one row a block."""

    cache: DynamicCache
    length: int

    def rows(self, count: int) -> DynamicCache:
        """The same for blocks that make up `count` rows."""
        cache = self.copied()
        blocks = self.cache.layers[0].keys.shape[0]
        cache.batch_repeat_interleave(count // blocks)
        return cache

    def copied(self) -> DynamicCache:
        """A cache with the same tensors, whose layers may be given others."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return cache

    @property
    def tensors(self) -> list[Tensor]:
        """Keys and values of every layer, (blocks, heads, length, d)."""
        return [x for layer in self.cache.layers for x in (layer.keys, layer.values)]


class SharedPrefix:
    """A prefix with gradients. Micro-batches go on from `prefix`, a copy cut off from what made it; `add` takes the gradients
    that arrive there, and `gradients` sends their sum on, so that all of them together go through the prefix once."""

    def __init__(self, made: Prefix) -> None:
        self.made = made.tensors
        cache = made.copied()
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys.detach().requires_grad_(), layer.values.detach().requires_grad_()
        self.prefix = Prefix(cache, made.length)
        self.leaves = self.prefix.tensors
        self.sums = [torch.zeros_like(leaf, dtype=torch.float32) for leaf in self.leaves]

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Those of one micro-batch, of each leaf."""
        for total, gradient in zip(self.sums, gradients, strict=True):
            if gradient is not None:
                total.add_(gradient)

    def gradients(self, parameters: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """What all micro-batches together want of the parameters because of the prefix."""
        with_gradients = [
            (x, total.to(x.dtype)) for x, total in zip(self.made, self.sums, strict=True) if x.requires_grad
        ]
        made, sums = zip(*with_gradients, strict=True)
        return torch.autograd.grad(made, parameters, sums, allow_unused=True)


def decoder_states(
    backbone: Any, batch: Batch, prefix: Prefix | None = None, embeddings: Tensor | None = None
) -> Tensor:
    """(rows, W, hidden) of a decoder-only model's trunk.

    `prefix`: what the rows lack at their beginning. `embeddings` (rows, W, hidden) go in instead of the tokens'.
    """
    tokens: dict[str, Any] = {"input_ids": batch.input_ids} if embeddings is None else {"inputs_embeds": embeddings}
    if batch.position_ids is None and prefix is None:
        states: Tensor = backbone(**tokens, attention_mask=batch.attention_mask, use_cache=False)[0]
        return states
    seen, positions = full_mask(batch)
    past: dict[str, Any] = {"use_cache": False}
    if prefix:
        seen = torch.nn.functional.pad(seen, (prefix.length, 0), value=True)
        positions = positions + prefix.length
        past = {"use_cache": True, "past_key_values": prefix.rows(len(batch.input_ids))}
    dtype = backbone.get_input_embeddings().weight.dtype
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
    if backbone.config._attn_implementation == NAME:
        past["spans"] = Spans.of(batch, prefix.length if prefix else 0)
    shared: Tensor = backbone(**tokens, attention_mask=mask, position_ids=positions, **past)[0]
    return shared


def full_mask(batch: Batch) -> tuple[Tensor, Tensor]:
    """(rows, 1, W, W), True where a token sees another, and the positions (rows, W), also for rows of a single answer."""
    if batch.position_ids is not None:
        return batch.attention_mask, batch.position_ids
    rows, width = batch.input_ids.shape
    steps = torch.arange(width, device=batch.input_ids.device)
    causal = steps[None] <= steps[:, None]
    return causal.expand(rows, 1, width, width), steps.expand(rows, width)


@torch.no_grad()
def can_share(base: Base) -> bool:
    """Whether answers in one row get the states that they get in rows of their own.

    Models that compute their own mask or positions (ALiBi, sliding windows) do not, and some do not say so: hence the trial.
    An encoder-decoder always shares its encoder, and has no such rows.
    """
    config = base.model.config
    if base.is_encoder_decoder or has_window(config):
        return False
    theirs = config._attn_implementation
    if theirs in ("sdpa", NAME):
        config._attn_implementation = NAME  # quicker, where the model hands on what it is told
        if agrees(base):
            return True
        config._attn_implementation = theirs
    return agrees(base)


def agrees(base: Base) -> bool:
    """Whether the trial's states are the same in shared rows and in rows of their own."""
    backbone = base.model.base_model
    alone, together = (collate(PROBE, base.pad_id, base.device, share) for share in (False, True))
    try:
        expected, found = (
            decoder_states(backbone, batch)[batch.rows[:, None], batch.positions].float() for batch in (alone, together)
        )
    except (TypeError, ValueError, RuntimeError):  # no position_ids, or no 4-D mask
        return False
    kept = torch.arange(expected.shape[1], device=base.device) <= alone.lengths[:, None]
    return same_states(base, expected[kept], found[kept])


def same_states(base: Base, expected: Tensor, found: Tensor) -> bool:
    """Whether states are the same but for rounding, measured against the largest."""
    tolerance = TOLERANCE if base.device.type == "cpu" and base.quantization == "none" else 20 * TOLERANCE
    return bool((expected - found).abs().max() <= tolerance * expected.abs().max())


def has_window(config: Any) -> bool:
    """Whether some layer sees only the nearest tokens, which short trials do not show."""
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
