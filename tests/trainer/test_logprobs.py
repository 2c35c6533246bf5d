"""Log-probabilities in chunks against all logits at once, and what is never held."""

import pytest
import torch
from torch import nn

from trainer import logprobs
from trainer.live_bytes import LiveBytes
from trainer.logprobs import token_logprobs

HIDDEN, VOCABULARY = 12, 40


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, the last one short."""
    monkeypatch.setattr(logprobs, "CHUNK", 5)


def inputs(rows: int = 4, width: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States that take gradients, tokens, and a mask with rows of different lengths."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(rows, width, HIDDEN, generator=generator, requires_grad=True)
    tokens = torch.randint(VOCABULARY, (rows, width), generator=generator)
    mask = torch.arange(width) < torch.tensor([6, 3, 1, 5])[:rows, None]
    return states, tokens, mask


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_all_logits_at_once(temperature: float) -> None:
    head = nn.Linear(HIDDEN, VOCABULARY).requires_grad_(False)
    states, tokens, mask = inputs()
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    found, spread = token_logprobs(states, tokens, mask, temperature, head)
    (found * weights).sum().backward()
    gradient, states.grad = states.grad, None
    rows = torch.log_softmax(head(states) / temperature, -1)
    expected = rows.gather(-1, tokens[..., None]).squeeze(-1) * mask
    (expected * weights).sum().backward()
    assert gradient is not None and states.grad is not None
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, states.grad)
    torch.testing.assert_close(spread, -(rows.exp() * rows).sum(-1).detach() * mask)
    assert not spread.requires_grad


def test_a_head_that_is_not_linear_has_its_own_slope() -> None:
    """Logits capped by a tanh, as some families have them."""
    weight = torch.randn(HIDDEN, VOCABULARY, generator=torch.Generator().manual_seed(2))
    states, tokens, mask = inputs()

    def capped(x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x @ weight / 3)

    found, _ = token_logprobs(states, tokens, mask, 1.0, capped)
    found.sum().backward()
    gradient, states.grad = states.grad, None
    expected = torch.log_softmax(capped(states), -1).gather(-1, tokens[..., None]).squeeze(-1) * mask
    expected.sum().backward()
    torch.testing.assert_close(gradient, states.grad)


def test_without_gradients_none_are_kept() -> None:
    states, tokens, mask = inputs()
    with torch.no_grad():
        found, _ = token_logprobs(states, tokens, mask, 1.0, nn.Linear(HIDDEN, VOCABULARY))
    assert not found.requires_grad


def test_the_logits_of_all_tokens_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peak of the living storages, forward and backward, against the logits themselves."""
    monkeypatch.setattr(logprobs, "CHUNK", 64)
    rows, width, vocabulary = 8, 256, 5000
    head = nn.Linear(HIDDEN, vocabulary).requires_grad_(False)
    states = torch.randn(rows, width, HIDDEN, requires_grad=True)
    tokens, mask = torch.zeros(rows, width, dtype=torch.long), torch.ones(rows, width, dtype=torch.bool)
    with LiveBytes() as live:
        token_logprobs(states, tokens, mask, 0.9, head)[0].sum().backward()
    assert live.peak < rows * width * vocabulary * 4 / 4
    with LiveBytes() as all_at_once:
        torch.log_softmax(head(states) / 0.9, -1)[..., 0].sum().backward()
    assert live.peak < all_at_once.peak / 8
