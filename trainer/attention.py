"""Attention in rows where several answers stand behind one prompt, without the pairs of tokens that never see each other."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trainer.batches import Batch

NAME = "rankloop"  # of the attention, in a model's configuration
SHORT = 2  # times a head's width: with at most so many keys, all scores take little more room than the queries


class Places:
    """Where tokens come from. `which` (M,): which of N tokens stands in each of M places; -1 for none, where zeros come."""

    def __init__(self, which: Tensor) -> None:
        self.which, self.empty = which.clamp(min=0), (which < 0).nonzero().squeeze(1)

    def taken(self, tokens: Tensor) -> Tensor:
        """(M, ...) out of (N, ...)."""
        found = tokens.index_select(0, self.which)
        return found.index_fill_(0, self.empty, 0) if len(self.empty) else found


@dataclass(frozen=True, slots=True)
class Moves:
    """Where tokens go, (N, ...) to (M, ...), and where they come back from."""

    there: Places
    back: Places

    def apply(self, tokens: Tensor) -> Tensor:
        """(N, ...) to (M, ...)."""
        moved: Tensor = Moved.apply(tokens, self.there, self.back)  # type: ignore[no-untyped-call]
        return moved

    def undo(self, tokens: Tensor) -> Tensor:
        """(M, ...) to (N, ...)."""
        moved: Tensor = Moved.apply(tokens, self.back, self.there)  # type: ignore[no-untyped-call]
        return moved


class Moved(torch.autograd.Function):
    """Tokens in other places. Without it the backward pass adds them up one by one, which a CPU does on one core."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, there: Places, back: Places) -> Tensor:
        ctx.back = back
        return there.taken(tokens)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back.taken(grad), None, None


@dataclass(frozen=True, slots=True)
class Spans:
    """Where prompts and answers stand in the rows of a batch. `rows` (n,): those of the answers; `longest`: tokens of the
    longest prompt, P; `prefix`: tokens that every row has seen before its first; `seen`: `seen_by`; `apart`: moves the rows'
    tokens (rows * W) to prompts (rows * P) and behind them answers (n * R)."""

    rows: Tensor
    longest: int
    prefix: int
    seen: Tensor
    apart: Moves

    @classmethod
    def of(cls, batch: Batch, prefix: int = 0) -> "Spans":
        """Those of a decoder-only batch."""
        (count, width), longest = batch.input_ids.shape, longest_prompt(batch)
        steps = torch.arange(longest, device=batch.rows.device)
        begins = torch.arange(count, device=batch.rows.device)[:, None] * width
        ends = torch.zeros_like(begins)
        ends[batch.rows] = batch.positions[:, :1]
        of_prompts = (begins + steps).where(steps <= ends, -1)
        of_answers = (begins[batch.rows] + batch.positions[:, 1:]).where(batch.response_mask, -1)
        there = torch.cat([of_prompts.flatten(), of_answers.flatten()])
        back = torch.full((count * width + 1,), -1, device=there.device)
        back[there] = torch.arange(len(there), device=there.device)  # what is nowhere goes to the last place
        return cls(
            batch.rows, longest, prefix, seen_by(batch, longest, prefix), Moves(Places(there), Places(back[:-1]))
        )

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, heads, W, d) as prompts (rows, heads, P, d) and answers (n, heads, R, d)."""
        count, heads, _, d = x.shape
        moved = self.apart.apply(x.transpose(1, 2).flatten(0, 1))
        n, _, length, _ = self.seen.shape
        prompts, answers = torch.split(moved, [count * self.longest, n * length])
        return (
            prompts.view(count, self.longest, heads, d).transpose(1, 2),
            answers.view(n, length, heads, d).transpose(1, 2),
        )

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys or values (rows, heads, prefix + W, d) as prompts see them, and answers (n, heads, prefix + P + R, d)."""
        prompts, answers = self.parts(x[:, :, self.prefix :] if self.prefix else x)
        if self.prefix:
            prompts = torch.cat([x[:, :, : self.prefix], prompts], 2)
        return prompts, torch.cat([prompts.index_select(0, self.rows), answers], 2)


def seen_by(batch: Batch, longest: int, prefix: int) -> Tensor:
    """(n, 1, R, prefix + P + R), True where a token of an answer sees one of its prompt or of its own."""
    n, length = batch.response_mask.shape
    steps = torch.arange(prefix + longest, device=batch.rows.device)
    before = (steps <= prefix + batch.positions[:, :1])[:, None].expand(n, length, -1)
    own = torch.ones(length, length, dtype=torch.bool, device=batch.rows.device).tril().expand(n, -1, -1)
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
    (rows, W, H, d). What stands behind a row's last answer gets 0. Raises ValueError where a model wants its scores changed,
    so that the trial of `sharing.can_share` leaves it its own.
    """
    if any(options.get(name) is not None for name in ("softcap", "position_bias")):
        raise ValueError("Scores with a cap or a bias of their own are not known here.")
    if spans is None or attention_mask is None:
        if attention_mask is not None and groups_inside(query.device):
            return of_groups(query, key, value, attention_mask, scaling).transpose(1, 2).contiguous(), None
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return plain
    masks = attention_mask[:, :, : spans.longest, : spans.prefix + spans.longest], spans.seen
    found = [
        of_groups(q, k, v, mask, scaling)
        for q, k, v, mask in zip(spans.parts(query), spans.told(key), spans.told(value), masks, strict=True)
    ]
    out = spans.apart.undo(torch.cat([x.transpose(1, 2).flatten(0, 1) for x in found]))
    return out.view(query.shape[0], query.shape[2], *out.shape[1:]), None


def of_groups(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """Attention (n, H, W, d) where several heads of `query` (n, H, W, d) share one of `key` and `value` (n, heads, T, d).

    `mask` (n, 1, W, T): True where a token sees another, or numbers to be added to the scores.
    """
    inside = groups_inside(query.device)
    if inside and (query.shape[2] == 1 or (query.requires_grad and key.shape[2] <= SHORT * query.shape[3])):
        return of_products(query, key, value, mask, scaling)
    if not inside:
        key, value = (repeat_kv(x, query.shape[1] // key.shape[1]) for x in (key, value))
    found: Tensor = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, mask, scale=scaling, enable_gqa=inside
    )
    return found


def of_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """The same from two products that hold the scores: on a CPU quicker than the kernel that is made for long rows, of which
    the one token of a decoding step has none, and whose gradients are slow."""
    (n, heads, width, d), (_, shared, length, _) = query.shape, key.shape
    if mask.dtype == torch.bool:
        mask = query.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(query.dtype).min)
    bias = mask[:, :, None].expand(n, shared, heads // shared, width, length).reshape(n * shared, -1, length)
    given, keys = query.reshape(n * shared, -1, d), key.reshape(n * shared, length, d)
    scores = torch.baddbmm(bias, given, keys.transpose(1, 2), alpha=d**-0.5 if scaling is None else scaling)
    return torch.bmm(scores.softmax(-1), value.reshape(n * shared, length, -1)).view(n, heads, width, -1)


def groups_inside(device: torch.device) -> bool:
    """Whether a kernel that takes a mask knows of heads that share keys: a GPU's do not, and the plain one would run."""
    return device.type == "cpu"


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
