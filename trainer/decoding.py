"""One forward pass a token, for both families: rows that have ended leave the batch, and their cache goes with them."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from trainer.batches import pad
from trainer.models import Base
from trainer.sharing import Prefix

ROOM = 64  # tokens


class Steps(Protocol):
    """A batch of rows in the middle of decoding."""

    def states(self, tokens: Tensor | None) -> Tensor:
        """(rows, hidden): the states that predict the next tokens, after `tokens` (rows,); None at the first step."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows (indices into the present ones) only."""


def start(base: Base, prompts: Sequence[list[int]], beginning: Prefix | None = None) -> Steps:
    """Decoding of the prompts with the adapters that are routed now. `beginning`: what all of them begin with."""
    if base.is_encoder_decoder:
        return EncoderDecoderSteps(base, prompts)
    return DecoderSteps(base, prompts, beginning)


def goes_on(base: Base) -> bool:
    """Whether decoding can go on from what was read before: a decoder that is told where tokens stand."""
    return not base.is_encoder_decoder and takes_positions(base.model.base_model)


def takes_positions(backbone: Any) -> bool:
    """Whether it can be told where tokens stand."""
    return "position_ids" in inspect.signature(backbone.forward).parameters


def without_repeats(prompts: Sequence[list[int]], device: torch.device) -> tuple[list[list[int]], Tensor]:
    """The distinct prompts, and which of them each prompt is: several answers to a prompt share its first pass."""
    distinct = {tuple(prompt): row for row, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    return [list(prompt) for prompt in distinct], torch.tensor([distinct[tuple(p)] for p in prompts], device=device)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values with room for the next tokens, so that a step copies its own token only.

    transformers' own layer copies everything at every step.
    """

    keys: Tensor
    values: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self.rooms: list[Tensor] = [self.keys, self.values]
            self.filled: list[Tensor] = [self.keys, self.values]
        self.keys = self.appended(0, self.keys, key_states)
        self.values = self.appended(1, self.values, value_states)
        return self.keys, self.values

    def appended(self, which: int, old: Tensor, new: Tensor) -> Tensor:
        """`old` (rows, heads, T, width) with `new` behind it, in place where `old` is the beginning of the room."""
        room, length = self.rooms[which], old.shape[2]
        total = length + new.shape[2]
        if total > room.shape[2] or old is not self.filled[which]:  # rows that left or were repeated made a copy
            rows, heads, _, width = new.shape
            room = new.new_empty(rows, heads, total + ROOM, width)
            room[:, :, :length] = old
            self.rooms[which] = room
        room[:, :, length:total] = new
        self.filled[which] = room[:, :, :total]
        return self.filled[which]

    def join(self, other: "RoomyLayer", first: int) -> None:
        """Its rows below these, whose columns begin at `first`; whichever are shorter get zeros before them."""
        pairs = (self.keys[:, :, first:], other.keys), (self.values[:, :, first:], other.values)
        for which, (mine, theirs) in enumerate(pairs):
            (rows, heads, _, width), total = mine.shape, max(mine.shape[2], theirs.shape[2])
            room = mine.new_zeros(rows + len(theirs), heads, total + ROOM, width)
            room[:rows, :, total - mine.shape[2] : total] = mine
            room[rows:, :, total - theirs.shape[2] : total] = theirs
            self.rooms[which], self.filled[which] = room, room[:, :, :total]
        self.keys, self.values = self.filled


def roomy(layer: DynamicLayer) -> RoomyLayer:
    """The same with room."""
    made = RoomyLayer()
    if layer.is_initialized:
        made.update(layer.keys, layer.values)
    return made


def new_cache(config: Any, rows: int, beginning: Prefix | None) -> DynamicCache:
    """A cache for decoding, with room in its layers unless the model needs some of another kind (windows, states)."""
    cache = beginning.rows(rows) if beginning else DynamicCache(config=config)
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        cache.layers = [roomy(layer) for layer in cache.layers]
    return cache


class DecoderSteps:
    """Left-padded rows, so that every row's newest token stands in the last column."""

    def __init__(self, base: Base, prompts: Sequence[list[int]], beginning: Prefix | None = None) -> None:
        distinct, self.rows = without_repeats(prompts, base.device)
        self.backbone = base.model.base_model
        self.takes_positions = takes_positions(self.backbone)
        self.cache: Any = new_cache(base.model.config, len(distinct), beginning)
        length = beginning.length if beginning else 0
        flipped, mask = pad([prompt[length:][::-1] for prompt in distinct], base.pad_id, base.device)
        self.ids = flipped.flip(1)
        self.mask = torch.cat([mask.new_ones(len(distinct), length), mask.flip(1)], 1).long()

    def states(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self.ids = tokens[:, None]
            self.mask = torch.cat([self.mask, torch.ones_like(self.ids)], 1)
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]
        extra = {"position_ids": positions} if self.takes_positions else {}
        out = self.backbone(
            input_ids=self.ids, attention_mask=self.mask, past_key_values=self.cache, use_cache=True, **extra
        )
        self.cache = out.past_key_values
        last: Tensor = out.last_hidden_state[:, -1]
        if tokens is None and len(self.rows) > len(last):
            self.keep(self.rows)
            last = last[self.rows]
        return last

    def keep(self, rows: Tensor) -> None:
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)

    def join(self, other: "DecoderSteps") -> None:
        """Go on with the rows of another batch, which has taken its first step, below these: the shorter ones behind padding.

        Only where `refilling.can_refill` has shown that this works.
        """
        first = int(self.mask.any(0).int().argmax())
        masks = self.mask[:, first:], other.mask
        width = max(mask.shape[1] for mask in masks)
        self.mask = torch.cat([torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.join(theirs, first)


class EncoderDecoderSteps:
    """The encoder runs once; the decoder begins with its start token."""

    def __init__(self, base: Base, prompts: Sequence[list[int]]) -> None:
        distinct, rows = without_repeats(prompts, base.device)
        ids, mask = pad(distinct, base.pad_id, base.device)
        self.decoder, self.mask = base.model.decoder, mask.long()[rows]
        self.encoded = base.model.encoder(input_ids=ids, attention_mask=mask.long())[0][rows]
        self.first = torch.full((len(prompts),), base.model.config.decoder_start_token_id, device=base.device)
        self.cache: Any = None

    def states(self, tokens: Tensor | None) -> Tensor:
        ids = self.first if tokens is None else tokens
        out = self.decoder(
            input_ids=ids[:, None], encoder_hidden_states=self.encoded, encoder_attention_mask=self.mask,
            past_key_values=self.cache, use_cache=True,
        )  # fmt: skip
        self.cache = out.past_key_values
        last: Tensor = out.last_hidden_state[:, -1]
        return last

    def keep(self, rows: Tensor) -> None:
        self.mask, self.encoded = self.mask[rows], self.encoded[rows]
        self.cache.batch_select_indices(rows)
