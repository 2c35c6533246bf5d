"""Tiers as ranks, pairs and soft labels, against slow loops over the definition."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.errors import BadTiers
from preferences.rankings import check_placed, check_tiers, pairs, ranks, ties, vote_shares, votes
from preferences.records import Tiers

ITEMS = list("abcdefghi")


@st.composite
def tiers_of(draw: st.DrawFn, items: list[str]) -> Tiers:
    """Any ranking with ties of those items: the items by drawn level."""
    levels = draw(st.lists(st.integers(0, len(items)), min_size=len(items), max_size=len(items)))
    return [[item for item, at in zip(items, levels, strict=True) if at == level] for level in sorted(set(levels))]


any_tiers = st.integers(2, 9).flatmap(lambda k: tiers_of(ITEMS[:k]))
any_rankings = st.integers(2, 5).flatmap(lambda k: st.lists(tiers_of(ITEMS[:k]), min_size=1, max_size=5))


def level(tiers: Tiers, item: str) -> int:
    return next(number for number, tier in enumerate(tiers) if item in tier)


def test_an_example_by_hand() -> None:
    tiers = [["b"], ["a", "c"], ["d"]]
    assert ranks(tiers) == {"b": 1, "a": 2, "c": 2, "d": 4}
    assert pairs(tiers) == [("b", "a"), ("b", "c"), ("b", "d"), ("a", "d"), ("c", "d")]
    assert ties(tiers) == [("a", "c")]


@given(any_tiers)
def test_a_rank_is_one_more_than_the_number_of_better_items(tiers: Tiers) -> None:
    items = [item for tier in tiers for item in tier]
    assert ranks(tiers) == {
        item: 1 + sum(level(tiers, other) < level(tiers, item) for other in items) for item in items
    }


@given(any_tiers)
def test_pairs_and_ties_are_every_two_items_once(tiers: Tiers) -> None:
    items = [item for tier in tiers for item in tier]
    assert set(pairs(tiers)) == {(a, b) for a in items for b in items if level(tiers, a) < level(tiers, b)}
    assert {frozenset(tie) for tie in ties(tiers)} == {
        frozenset((a, b)) for a, b in combinations(items, 2) if level(tiers, a) == level(tiers, b)
    }
    assert len(pairs(tiers)) + len(ties(tiers)) == len(items) * (len(items) - 1) // 2


@given(any_rankings)
def test_vote_shares_are_the_mean_of_the_votes(rankings: list[Tiers]) -> None:
    items = sorted(item for tier in rankings[0] for item in tier)
    expected = {}
    for a, b in combinations(items, 2):
        total = 0.0
        for tiers in rankings:
            difference = level(tiers, b) - level(tiers, a)
            total += 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0
        expected[a, b] = total / len(rankings)
    assert vote_shares(map(votes, rankings)) == pytest.approx(expected)


def test_three_annotators_by_hand() -> None:
    shares = vote_shares(map(votes, [[["a"], ["b"]], [["b"], ["a"]], [["b", "a"]]]))
    assert shares == {("a", "b"): 0.5}
    assert vote_shares(map(votes, [[["b"], ["a"]], [["b", "a"]]])) == {("a", "b"): 0.25}
    assert vote_shares([]) == {}


@given(any_tiers, st.randoms())
def test_full_tiers_pass_whatever_the_order(tiers: Tiers, random: object) -> None:
    items = [item for tier in tiers for item in tier]
    random.shuffle(items)  # type: ignore[attr-defined]
    check_tiers(tiers, items)
    check_placed(tiers, items)


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ([], "3 of 3 responses are not placed"),
        ([["a"], ["b"]], "1 of 3 responses are not placed"),
        ([["a"], ["b"], ["x"]], "1 of 3 responses are not placed"),
        ([["a"], ["b", "c"], ["x"]], "'x' is not a response"),
        ([["a"], ["b", "c"], ["a"]], "'a' is placed more than once"),
        ([["a", "a"], ["b", "c"]], "'a' is placed more than once"),
        ([["a"], [], ["b", "c"]], "rank without a response"),
    ],
)
def test_what_is_no_ranking_is_named(tiers: Tiers, message: str) -> None:
    with pytest.raises(BadTiers, match=message) as caught:
        check_tiers(tiers, ["a", "b", "c"])
    assert "\n" not in str(caught.value)


@given(any_tiers, st.data())
def test_a_draft_may_be_incomplete(tiers: Tiers, data: st.DataObject) -> None:
    items = [item for tier in tiers for item in tier]
    kept = data.draw(st.sets(st.sampled_from(items)))
    check_placed([[item for item in tier if item in kept] for tier in tiers], items)


@pytest.mark.parametrize("tiers", [[["x"]], [["a"], ["a"]], [["a", "a"]]])
def test_a_draft_places_only_what_is_shown_and_once(tiers: Tiers) -> None:
    with pytest.raises(BadTiers):
        check_placed(tiers, ["a", "b", "c"])
