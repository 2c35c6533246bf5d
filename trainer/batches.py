"""Token ids to padded batches, with the one index convention that every stage uses.

State t of an answer is the hidden state that predicts its token t; there is one more, the state after the last token.
All masks say True for a real token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

WORTH_A_PASS = 512  # tokens that must be saved before a prefix gets a pass of its own


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and an answer as token ids; the end token, where there is one, belongs to `response`."""

    prompt: list[int]
    response: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class Batch:
    """n answers in right-padded rows; several answers to one prompt may share its row, and so its computation.

    Decoder-only: a row of `input_ids` is a prompt and its answers, one after the other. Where there are several,
    `attention_mask` is (rows, 1, W, W), True where a token (third axis) sees another, which keeps the answers apart, and
    `position_ids` has each of them go on from the prompt; else it is (rows, W), 1 where there is a token, and there are none.
    Encoder-decoder: `input_ids` are the distinct prompts, and `decoder_ids` (n, R + 1) the start token and the answer.
    `rows` (n,): the row of each answer (of its prompt, for an encoder-decoder). `positions` (n, R + 1): where its state t
    stands in the decoder's row (the last one repeated beyond the answer's end).
    `response_ids`, `response_mask` (n, R): True where there is a response token, the end token included.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor | None
    decoder_ids: Tensor | None
    rows: Tensor
    positions: Tensor
    response_ids: Tensor
    response_mask: Tensor

    @property
    def lengths(self) -> Tensor:
        """(n,) response lengths."""
        return self.response_mask.sum(1)

    def repeat(self, times: int) -> "Batch":
        """The same batch so many times over, block after block."""
        tensors = {name: getattr(self, name) for name in self.__slots__}
        tall = {name: x.repeat(times, *[1] * (x.dim() - 1)) for name, x in tensors.items() if x is not None}
        blocks = torch.arange(times, device=self.rows.device).repeat_interleave(len(self.rows))
        return replace(self, **{**tall, "rows": tall["rows"] + blocks * len(self.input_ids)})


def pad(rows: Sequence[Sequence[float]], value: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(rows, longest) token ids, or a number for each token, right-padded, and the mask of real tokens."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]


def collate(examples: Sequence[Example], pad_id: int, device: torch.device, share: bool = False) -> Batch:
    """A batch of decoder-only rows; with `share`, successive examples of one prompt stand in one row."""
    groups = rows_of(examples, share)
    texts = [examples[g[0]].prompt + [t for i in g for t in examples[i].response] for g in groups]
    input_ids, attention_mask = pad(texts, pad_id, device)
    response_ids, response_mask = pad([example.response for example in examples], pad_id, device)
    rows = torch.tensor([row for row, group in enumerate(groups) for _ in group], device=device)
    starts = torch.tensor([start for group in groups for start in _starts(examples, group)], device=device)
    ends = torch.tensor([len(example.prompt) - 1 for example in examples], device=device)
    steps = _steps(response_mask)
    # An answer's first state is the prompt's last one; the others stand where its own tokens do.
    positions = torch.where(steps == 0, ends[:, None], starts[:, None] + steps - 1)
    batch = Batch(input_ids, attention_mask.long(), None, None, rows, positions, response_ids, response_mask)
    return batch if len(groups) == len(examples) else _kept_apart(batch, examples, groups)


def collate_pairs(examples: Sequence[Example], pad_id: int, device: torch.device, start: int) -> Batch:
    """A batch of encoder-decoder rows; successive examples of one prompt share its row in the encoder."""
    groups = same_prompt(examples)
    input_ids, attention_mask = pad([examples[group[0]].prompt for group in groups], pad_id, device)
    response_ids, response_mask = pad([example.response for example in examples], pad_id, device)
    decoder_ids, _ = pad([[start, *example.response] for example in examples], pad_id, device)
    rows = torch.tensor([row for row, group in enumerate(groups) for _ in group], device=device)
    steps = _steps(response_mask)
    return Batch(input_ids, attention_mask.long(), None, decoder_ids, rows, steps, response_ids, response_mask)


def common_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all the prompts begin with."""
    shortest = min(prompts, key=len)
    return next((t for t in range(len(shortest)) if len({prompt[t] for prompt in prompts}) > 1), len(shortest))


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all the prompts begin with, where reading these once saves more than it costs; else 0.

    Every prompt keeps a token of its own.
    """
    length = min(common_length(prompts), min(map(len, prompts)) - 1)
    return length if length * (len(prompts) - 1) >= WORTH_A_PASS else 0


def same_prompt(examples: Sequence[Example]) -> list[list[int]]:
    """The indices of successive examples that have the same prompt, run by run."""
    return [list(run) for _, run in groupby(range(len(examples)), key=lambda i: examples[i].prompt)]


def rows_of(examples: Sequence[Example], share: bool) -> list[list[int]]:
    """The indices of the examples that stand in each row: one each, or with `share` a run of one prompt."""
    return same_prompt(examples) if share else [[i] for i in range(len(examples))]


def widths(examples: Sequence[Example], share: bool) -> list[int]:
    """The tokens of each row: a prompt and its answers."""
    return [
        len(examples[row[0]].prompt) + sum(len(examples[i].response) for i in row) for row in rows_of(examples, share)
    ]


def filled(examples: Sequence[Example], share: bool) -> tuple[int, int]:
    """How many tokens a batch of these has without its padding, and how many with it."""
    found = widths(examples, share)
    return sum(found), max(found) * len(found)


def _steps(response_mask: Tensor) -> Tensor:
    """(n, R + 1) how many tokens of its answer each state has behind it; the last number repeated beyond the end."""
    steps = torch.arange(response_mask.shape[1] + 1, device=response_mask.device)
    return torch.minimum(steps[None], response_mask.sum(1, keepdim=True))


def _starts(examples: Sequence[Example], group: Sequence[int]) -> list[int]:
    """Where each of a row's answers begins."""
    starts = [len(examples[group[0]].prompt)]
    for i in group[:-1]:
        starts.append(starts[-1] + len(examples[i].response))
    return starts


def _kept_apart(batch: Batch, examples: Sequence[Example], groups: Sequence[Sequence[int]]) -> Batch:
    """With the mask and the positions that let each answer see its prompt and itself only."""
    n, width = batch.input_ids.shape
    owner = torch.full((n, width), -1)  # which answer a token belongs to; 0 for the prompt, -1 for padding
    position_ids = torch.zeros(n, width, dtype=torch.long)
    for row, group in enumerate(groups):
        length = len(examples[group[0]].prompt)
        owner[row, :length], position_ids[row, :length] = 0, torch.arange(length)
        for number, (start, i) in enumerate(zip(_starts(examples, group), group, strict=True), start=1):
            size = len(examples[i].response)
            owner[row, start : start + size] = number
            position_ids[row, start : start + size] = length + torch.arange(size)
    owner, position_ids = owner.to(batch.input_ids.device), position_ids.to(batch.input_ids.device)
    own = (owner[:, :, None] == owner[:, None, :]) | (owner[:, None, :] == 0)
    causal = torch.ones(width, width, dtype=torch.bool, device=owner.device).tril()
    seen = (own & causal) | torch.eye(width, dtype=torch.bool, device=owner.device)  # padding sees itself: no empty row
    return replace(batch, attention_mask=seen[:, None], position_ids=position_ids)


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


def shared_batches(examples: Sequence[Example], budget: int, share: bool) -> list[list[int]]:
    """`micro_batches` of examples; with `share`, those of one prompt that follow each other stay together in a row."""
    groups = rows_of(examples, share)
    return [[i for row in rows for i in groups[row]] for rows in micro_batches(widths(examples, share), budget)]


def first_batch(examples: Sequence[Example], budget: int) -> list[int]:
    """The answers to the first prompts, whatever their lengths, as many as padded rows of `budget` tokens take; at least
    those to one."""
    rows: list[int] = []
    width = 0
    for group in same_prompt(examples):
        width = max(width, *(len(examples[i]) for i in group))
        if rows and width * (len(rows) + len(group)) > budget:
            break
        rows += group
    return rows


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive runs of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
