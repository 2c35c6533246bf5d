"""Ranked comparisons as token ids: what the reward model trains on and is judged by."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Any, NamedTuple

from preferences.exchange.names import pseudonym
from preferences.exchange.soft import Shares, by_annotator_model, by_votes
from preferences.exchange.views import grouped, margin
from preferences.rankings import ALL_BAD, votes_of
from preferences.records import Message, Ranking, Study
from preferences.store import Store
from trainer.batches import Example
from trainer.models import Base
from trainer.scoring import response_example

Pair = tuple[int, int, float]


class Said(NamedTuple):
    """What the rankings say of two responses: which parts of them prefer the first, tie them, prefer the second.

    `strength`: how much better the preferred one is, in steps; 0 where that was not said.
    """

    first: int
    second: int
    win: float
    tie: float
    loss: float
    strength: float


class Order(NamedTuple):
    """One ranking: `tiers` of responses, best first. `ties`: whether those of one tier are tied, or were not compared."""

    annotator: str
    tiers: list[list[int]]
    ties: bool
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """One comparison. `pairs`: (better, worse, share of the rankings that say so), ties left out; `ties`: share one half.

    `all_bad`: the part of its rankings that finds no response acceptable, and says no order. `source`, `language`: of the
    prompt; `messages`: the prompt itself; `ident`: the comparison's id, or its record's.
    """

    prompt: str
    examples: list[Example]
    texts: list[str]
    pairs: list[Pair]
    ties: list[tuple[int, int]]
    said: list[Said] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    all_bad: float = 0.0
    source: str = ""
    language: str = ""
    messages: list[Message] = field(default_factory=list)
    ident: str = ""

    @property
    def weight(self) -> float:
        """Weight of each pair: 1 / C(K, 2), so that every comparison counts the same."""
        return 1 / comb(len(self.examples), 2)

    @property
    def tokens(self) -> int:
        """Tokens of all its rows."""
        return sum(len(example) for example in self.examples)

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(map(len, self.examples))


def load_ranked(
    store: Store, study: Study, base: Base, split: str, simulated: bool, annotator_model: bool = False
) -> list[Ranked]:
    """The ranked comparisons of one split. A truncated answer keeps no end token, so that the model can see that.

    `annotator_model`: the shares of the pairs weigh annotators by their accuracy.
    """
    prompts = {prompt.id: prompt for prompt in store.prompts.all(split)}
    accounts = store.annotators.all()
    names = {account.id: pseudonym(study, account) for account in accounts}
    robots = {account.id for account in accounts if account.simulated}
    shares: Shares = by_annotator_model(store, study, simulated) if annotator_model else by_votes
    result = []
    for comparison, rankings in grouped(store, study, split, simulated):
        responses = store.responses.get_many(comparison.items)
        shown = [responses[item] for item in comparison.items]
        prompt = prompts[comparison.prompt]
        ids = base.prompt_ids(prompt.messages)
        examples = [response_example(base, ids, r.text, r.finish_reason == "stop") for r in shown]
        result.append(
            Ranked(
                comparison.prompt, examples, [r.text for r in shown],
                *decided(comparison.items, shares(comparison, rankings)),
                **judgements(comparison.items, rankings, names, robots),
                source=prompt.source, language=prompt.language, messages=prompt.messages, ident=comparison.id,
            )
        )  # fmt: skip
    return result


def judgements(
    items: Sequence[str], rankings: Sequence[Ranking], names: dict[str, str], robots: set[str]
) -> dict[str, Any]:
    """`said`, `orders` and `all_bad` of a comparison; `names`: what annotators are called; `robots`: the simulated ones."""
    index = {item: i for i, item in enumerate(items)}
    orders = [
        Order(
            names.get(ranking.annotator, ranking.annotator),
            [[index[item] for item in tier] for tier in ranking.tiers],
            ranking.mode != "best-worst",
            ranking.annotator in robots,
        )
        for ranking in rankings
        if ALL_BAD not in ranking.flags
    ]
    all_bad = 1 - len(orders) / len(rankings) if rankings else 0.0
    return {"said": said_of(items, rankings), "orders": orders, "all_bad": all_bad}


def said_of(items: Sequence[str], rankings: Sequence[Ranking]) -> list[Said]:
    """Of each two items that some ranking says something of, what all of these say."""
    index = {item: i for i, item in enumerate(items)}
    votes: dict[tuple[str, str], list[float]] = {}
    for ranking in rankings:
        for a, b, vote in votes_of(ranking):
            key = (a, b) if index[a] < index[b] else (b, a)
            votes.setdefault(key, []).append(vote if key == (a, b) else 1 - vote)
    found = []
    for (a, b), values in votes.items():
        win, tie, loss = (values.count(value) / len(values) for value in (1.0, 0.5, 0.0))
        voting = [ranking for ranking in rankings if ALL_BAD not in ranking.flags]
        strength = margin(voting, a, b) if win >= loss else margin(voting, b, a)
        found.append(Said(index[a], index[b], win, tie, loss, strength))
    return found


def decided(items: Sequence[str], shares: dict[tuple[str, str], float]) -> tuple[list[Pair], list[tuple[int, int]]]:
    """Pairs with a majority as (better, worse, share), and pairs without one, both as indices of `items`."""
    index = {item: i for i, item in enumerate(items)}
    pairs, ties = [], []
    for (a, b), share in shares.items():
        if share == 0.5:
            ties.append((index[a], index[b]))
        else:
            better, worse = (a, b) if share > 0.5 else (b, a)
            pairs.append((index[better], index[worse], max(share, 1 - share)))
    return pairs, ties


def context_length(base: Base) -> int | None:
    """The most tokens that a row may have; None where positions are relative or nothing is said."""
    found = getattr(base.model.config, "max_position_embeddings", None)
    return int(found) if found and not base.is_encoder_decoder else None


def fitting(ranked: Sequence[Ranked], most: int | None) -> tuple[list[Ranked], str]:
    """The comparisons whose answers all fit, and a sentence about the others, if any.

    An answer that is cut would be another answer, and a comparison without it another ranking.
    """
    kept = [r for r in ranked if most is None or r.longest <= most]
    left = len(ranked) - len(kept)
    if not left:
        return kept, ""
    return kept, (
        f"{left} of {len(ranked)} comparisons are left out, because a prompt and an answer of theirs have more than {most} "
        "tokens; a base with a longer context would take them."
    )


def data_hash(ranked: Sequence[Ranked]) -> str:
    """Which rankings these are."""
    parts = [[r.prompt, r.texts, r.pairs, r.ties] for r in ranked]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
