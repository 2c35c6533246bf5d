"""Attention in rows where several answers stand behind one prompt, without the pairs of tokens that never see each other."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainer.batches import Batch

NAME = "rankloop"  # of the attention, in a model's configuration


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the answers of a batch stand. `rows` (n,); `places` (n, R): their tokens in the row, the last one repeated beyond
    an answer's end; `mask` (n, R): True for a token; `prompts` (n,): tokens of their prompt in the row, at most `longest`;
    `prefix`: tokens that every row has seen before its first."""

    rows: Tensor
    places: Tensor
    mask: Tensor
    prompts: Tensor
    longest: int
    prefix: int

    @classmethod
    def of(cls, batch: Batch, prefix: int = 0) -> "Spans":
        """Those of a decoder-only batch."""
        prompts = batch.positions[:, 0] + 1
        return cls(batch.rows, batch.positions[:, 1:], batch.response_mask, prompts, longest_prompt(batch), prefix)

    def seen(self, prompt: int) -> Tensor:
        """(n, 1, R, prefix + prompt + R), True where a token of an answer sees one of its prompt or of its own."""
        n, length = self.mask.shape
        steps = torch.arange(self.prefix + prompt, device=self.rows.device)
        before = (steps < self.prefix + self.prompts[:, None])[:, None].expand(n, length, -1)
        own = torch.ones(length, length, dtype=torch.bool, device=self.rows.device).tril().expand(n, -1, -1)
        return torch.cat([before, own], 2)[:, None]


def longest_prompt(batch: Batch) -> int:
    """Tokens of the longest prompt in the rows of a decoder-only batch."""
    return int(batch.positions[:, 0].max()) + 1


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, spans: Spans | None = None,
    scaling: float | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' scaled dot-product attention; with `spans`, each answer with its prompt and itself alone.

    query (rows, H, W, d), key and value (rows, heads, prefix + W, d), attention_mask (rows, 1, W, prefix + W), out
    (rows, W, H, d). What stands behind a row's last answer gets 0.
    """
    if spans is None or attention_mask is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return plain
    prompt, begin = spans.longest, spans.prefix + spans.longest
    masks = attention_mask[:, :, :prompt, :begin], spans.seen(prompt)
    rows, places = spans.rows[:, None], spans.places
    asked = query[:, :, :prompt], query.transpose(1, 2)[rows, places].transpose(1, 2)

    def of_answers(x: Tensor) -> Tensor:
        own = x.transpose(1, 2)[rows, spans.prefix + places].transpose(1, 2)
        return torch.cat([x[spans.rows, :, :begin], own], 2)

    groups = query.shape[1] // key.shape[1]
    told = [
        torch.nn.functional.scaled_dot_product_attention(
            q, repeat_kv(k, groups), repeat_kv(v, groups), mask, scale=scaling
        )
        for q, k, v, mask in zip(
            asked, (key[:, :, :begin], of_answers(key)), (value[:, :, :begin], of_answers(value)), masks, strict=True
        )
    ]
    of_prompts, found = (x.transpose(1, 2) for x in told)
    out = torch.cat([of_prompts, query.new_zeros(len(query), query.shape[2] - prompt, *of_prompts.shape[2:])], 1)
    where = spans.rows[:, None].expand_as(places)[spans.mask], places[spans.mask]
    return out.index_put(where, found[spans.mask]), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
