"""Token ids to padded batches, with the one index convention that every stage uses.

State t of a row is the hidden state that predicts its response token t; there is one more, the state after the last
token. All masks say True for a real token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and an answer as token ids; the end token, where there is one, belongs to `response`."""

    prompt: list[int]
    response: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows.

    Decoder-only: `input_ids` is prompt + response. Encoder-decoder: it is the prompt, and `decoder_ids` is the start
    token + response.
    `positions` (rows, R + 1): where in the decoder's output state t stands (the last one repeated beyond the row's end).
    `response_ids`, `response_mask` (rows, R): True where there is a response token, the end token included.
    """

    input_ids: Tensor
    attention_mask: Tensor
    decoder_ids: Tensor | None
    positions: Tensor
    response_ids: Tensor
    response_mask: Tensor

    @property
    def lengths(self) -> Tensor:
        """(rows,) response lengths."""
        return self.response_mask.sum(1)


def pad(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(rows, longest) token ids, right-padded, and the mask of real tokens."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]


def collate(examples: Sequence[Example], pad_id: int, device: torch.device, decoder_start: int | None = None) -> Batch:
    """A batch of decoder-only rows, or of encoder-decoder rows if `decoder_start` is given."""
    response_ids, response_mask = pad([example.response for example in examples], pad_id, device)
    steps = torch.arange(response_ids.shape[1] + 1, device=device)
    steps = torch.minimum(steps[None], response_mask.sum(1, keepdim=True))
    if decoder_start is not None:
        input_ids, attention_mask = pad([example.prompt for example in examples], pad_id, device)
        decoder_ids, _ = pad([[decoder_start, *example.response] for example in examples], pad_id, device)
        return Batch(input_ids, attention_mask.long(), decoder_ids, steps, response_ids, response_mask)
    input_ids, attention_mask = pad([example.prompt + example.response for example in examples], pad_id, device)
    starts = torch.tensor([len(example.prompt) - 1 for example in examples], device=device)
    return Batch(input_ids, attention_mask.long(), None, starts[:, None] + steps, response_ids, response_mask)


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped by similar length so that rows x longest <= budget (a single longer row stands alone)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups: list[list[int]] = []
    for index in order:
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive runs of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
