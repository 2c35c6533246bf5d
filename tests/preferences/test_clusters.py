"""Near-duplicates."""

import re
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from preferences.clusters import THRESHOLD, cluster, shingles, twins

CAT = "Write a short story about a cat that opens a small shop"
DOG = "Write a short story about a dog that opens a small shop"
TAX = "How do I file my taxes in Portugal as a freelancer?"


def test_shingles_are_runs_of_three_words() -> None:
    assert shingles("One, two THREE four!") == {("one", "two", "three"), ("two", "three", "four")}
    assert shingles("Hi there") == {("hi", "there")}
    assert shingles("?!") == {()}


def slow_twins(texts: list[str]) -> set[tuple[int, int, float]]:
    """The definition, for every two texts."""
    found = set()
    for j, i in combinations(range(len(texts)), 2):
        a, b = shingles(texts[i]), shingles(texts[j])
        similarity = len(a & b) / len(a | b)
        if similarity >= THRESHOLD:
            found.add((i, j, similarity))
    return found


words = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8).map(" ".join)


@given(st.lists(words, max_size=12))
def test_twins_are_those_of_the_definition(texts: list[str]) -> None:
    assert set(twins(texts)) == slow_twins(texts)


@given(st.lists(words, max_size=12), st.randoms())
def test_no_two_clusters_have_twins_and_the_order_does_not_matter(texts: list[str], random: object) -> None:
    new = {f"{number:02d}": text for number, text in enumerate(texts)}
    found = cluster([], new)
    for i, j, _ in slow_twins(texts):
        assert found[f"{i:02d}"] == found[f"{j:02d}"]
    shuffled = list(new.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert cluster([], dict(shuffled)) == found


def test_twins_share_a_cluster_and_others_do_not() -> None:
    assert cluster([], {"1": CAT, "2": TAX, "3": DOG, "4": CAT.upper() + "!"}) == {
        "1": "1", "2": "2", "3": "1", "4": "1"
    }  # fmt: skip


def test_a_text_between_two_others_joins_them() -> None:
    """Else one could be held out while its twin is trained on."""
    left, right = "a b c d e f", "c d e f g h"
    between = "b c d e f g"
    assert not slow_twins([left, right])
    assert cluster([], {"1": left, "2": right})["2"] == "2"
    assert set(cluster([], {"1": left, "2": right, "3": between}).values()) == {"1"}


def test_known_clusters_stay_and_the_most_similar_one_is_joined() -> None:
    known = [("a b c d e f", "left"), ("c d e f g h", "right"), ("x y z", "far")]
    for order in (known, known[::-1]):  # and other words, since sets have no order
        for tail in "123456789":
            there = [(re.sub(r"(\w)", rf"\g<1>{tail}", text), label) for text, label in order]
            text = re.sub(r"(\w)", rf"\g<1>{tail}", "b c d e f g h")
            assert cluster(there, {"1": text}) == {"1": "right"}  # similarity 4/5, to "left" 3/6
    assert cluster(known, {"1": "a b c d e f!", "2": "c d e f g h?", "3": "b c d e f g", "4": "q"}) in (
        {"1": "left", "2": "left", "3": "left", "4": "4"},
        {"1": "right", "2": "right", "3": "right", "4": "4"},
    )
