"""Log-probabilities of drawn tokens from states, without ever holding the logits of all of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CHUNK = 128  # tokens whose logits exist at one time: 25 MB at a vocabulary of 50,000

Logits = Callable[[Tensor], Tensor]


class TokenLogprobs(torch.autograd.Function):
    """Log-probabilities (n,) and entropies (n,) of `tokens` (n,) from states (n, hidden), `CHUNK` tokens at a time.

    A token's log-probability depends on its own state alone and the head is frozen, so its gradient (hidden,) is found while
    its logits exist; the backward pass only scales it. The entropy has no gradient.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, tokens: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        room: list[Tensor] = []
        parts = [
            _chunk(some, ids, logits, wanted, room)
            for some, ids in zip(torch.split(states, CHUNK), torch.split(tokens, CHUNK), strict=True)
        ]
        drawn, spread, gradients = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(gradients)
        ctx.mark_non_differentiable(spread)
        return drawn, spread

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        return grad[:, None].to(gradients.dtype) * gradients, None, None


def _chunk(
    states: Tensor, tokens: Tensor, logits: Logits, wanted: bool, room: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies, and the former's gradients for the states (n, hidden), or (n, 0) if not `wanted`.

    Works in place, and `room` hands the second tensor of the logits' size on to the next chunk: new ones cost a CPU more
    time than the arithmetic, as the system clears them.
    """
    with torch.set_grad_enabled(wanted):
        leaf = states.detach().requires_grad_(wanted)
        logit_rows = logits(leaf)
    rows = logit_rows.detach()
    if not room:
        room.append(torch.empty_like(rows))
    probabilities, tokens = room[0][: len(rows)], tokens[:, None]
    # log softmax, with the largest logit taken off so that nothing overflows
    rows.sub_(rows.amax(-1, keepdim=True))
    torch.exp(rows, out=probabilities)
    total = probabilities.sum(-1)
    drawn = rows.gather(-1, tokens).squeeze(-1) - total.log()
    spread = total.log() - rows.mul_(probabilities).sum(-1) / total
    if not wanted:
        return drawn, spread, states.new_empty(len(states), 0)
    # d logprob / d logits = one-hot - probabilities
    slope = probabilities.div_(-total[:, None]).scatter_add_(1, tokens, torch.ones_like(drawn)[:, None])
    return drawn, spread, torch.autograd.grad(logit_rows, leaf, slope)[0]


def token_logprobs(
    states: Tensor, tokens: Tensor, mask: Tensor, temperature: float, logits: Logits
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (n, R) of `tokens` (n, R) at `temperature`; 0 where `mask` (n, R) has no token.

    `states` (n, R, hidden) predict the tokens; `logits` maps (..., hidden) to (..., vocabulary) in fp32.
    """
    scaled = logits if temperature == 1 else lambda x: logits(x) / temperature
    drawn, spread = TokenLogprobs.apply(states[mask], tokens[mask], scaled)  # type: ignore[no-untyped-call]
    where = mask.nonzero(as_tuple=True)
    empty = torch.zeros(mask.shape, device=drawn.device)
    return empty.index_put(where, drawn), empty.index_put(where, spread)
