"""Attention of answers that share a row: the same numbers as with the whole mask, from fewer pairs of tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.make import close, with_adapters
from tests.trainer.test_sharing import EXAMPLES, PROMPTS
from trainer import attention
from trainer.attention import NAME
from trainer.batches import Example
from trainer.models import load_base
from trainer.roles import Roles


def states(roles: Roles, examples: list[Example]) -> torch.Tensor:
    """Of all real tokens of two blocks."""
    batch = roles.collate(examples).repeat(2)
    kept = torch.arange(batch.positions.shape[1]) <= batch.lengths[:, None]
    with roles.routed("policy", "value"):
        return roles.response_states(batch)[kept]


@pytest.mark.parametrize("short", [0, 2])
def test_fewer_pairs_and_the_same_states_and_gradients(
    short: int, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From products that hold the scores, and from the kernel for long rows."""
    monkeypatch.setattr(attention, "SHORT", short)
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy", "value")
    roles.train_only("policy", "value")
    config, pairs, found = roles.base.model.config, dict[tuple[str, str], int](), {}
    assert config._attn_implementation == NAME

    def counted(way: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def count(query: torch.Tensor, key: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
            kind = way.__name__, name
            pairs[kind] = pairs.get(kind, 0) + len(query) * query.shape[2] * key.shape[2]
            return way(query, key, *args, **options)

        return count

    for where, what in ((attention, "of_products"), (torch.nn.functional, "scaled_dot_product_attention")):
        monkeypatch.setattr(where, what, counted(getattr(where, what)))
    parameters = [p for role in ("policy", "value") for p in roles.parameters(role)]
    examples = [Example(prompt, [40 + n + i for i in range(9 + n % 3)]) for prompt in PROMPTS for n in range(4)]
    for name in (NAME, "sdpa"):
        config._attn_implementation = name
        said = states(roles, examples)
        weights = torch.randn(said.shape, generator=torch.Generator().manual_seed(0))
        found[name] = (said.detach(), *torch.autograd.grad((said * weights).sum(), parameters))
    way = "of_products" if short else "scaled_dot_product_attention"
    assert len(pairs) == 2 and pairs[way, NAME] < 0.5 * pairs["scaled_dot_product_attention", "sdpa"]
    assert all(close(one, other, 1e-5) for one, other in zip(found[NAME], found["sdpa"], strict=True))


@torch.no_grad()
def test_behind_a_prefix_that_was_read_before(llama_folder: Path) -> None:
    roles = with_adapters(load_base(str(llama_folder), "none"), "policy", "value")
    start = [70, 71, 72, 73]
    whole = states(roles, [Example(start + example.prompt, example.response) for example in EXAMPLES])
    batch = roles.collate(EXAMPLES).repeat(2)
    kept = torch.arange(batch.positions.shape[1]) <= batch.lengths[:, None]
    with roles.routed("policy", "value"):
        parts = roles.response_states(batch, roles.read_prefix(start))[kept]
    assert len(PROMPTS) < len(EXAMPLES) and close(parts, whole, 1e-5)


def test_a_model_that_hands_nothing_on_attends_under_the_whole_mask(llama_folder: Path) -> None:
    """Its attention never hears of the spans, and the answers still see their prompt and themselves alone."""
    base = load_base(str(llama_folder), "none")
    heard = []
    for layer in base.model.model.layers:

        def forgetful(*args: Any, _inner: Any = layer.self_attn.forward, spans: object = None, **given: Any) -> Any:
            heard.append(spans)
            return _inner(*args, **given)

        layer.self_attn.forward = forgetful
    roles = with_adapters(base, "policy", "value")
    assert roles.shares and base.model.config._attn_implementation == NAME
    found = states(roles, EXAMPLES)
    assert any(spans is not None for spans in heard)
    roles.shares = False
    assert close(found, states(roles, EXAMPLES), 1e-5)


def test_a_model_with_an_attention_of_its_own_keeps_it(llama_folder: Path) -> None:
    base = load_base(str(llama_folder), "none")
    base.model.config._attn_implementation = "eager"
    assert Roles(base).shares and base.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("wish", ["softcap", "position_bias"])
def test_a_model_that_changes_its_scores_keeps_its_attention(wish: str, llama_folder: Path) -> None:
    base = load_base(str(llama_folder), "none")
    for layer in base.model.model.layers:

        def wishing(*args: Any, _inner: Any = layer.self_attn.forward, **given: Any) -> Any:
            return _inner(*args, **given, **{wish: torch.ones(1)})

        layer.self_attn.forward = wishing
    Roles(base)
    assert base.model.config._attn_implementation == "sdpa"
