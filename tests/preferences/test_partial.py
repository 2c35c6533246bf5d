"""Answers that name the best and the worst alone: statistics use the pairs that they compare, and no others."""

from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from preferences import summary
from preferences.bias import first_shown_wins
from preferences.choices import Shape, fit
from preferences.consensus import pair_labels
from preferences.contests import Answers, Contests, contests_of, pairs_of, stages_of
from preferences.labels import NONE, Labels, blocks
from preferences.quality import annotators, label_distribution
from preferences.rankings import agreement
from preferences.records import Mode, Ranking, Study
from preferences.repeats import flip_rate, self_consistency
from preferences.store import Store
from preferences.strengths import strengths, worths
from preferences.summary import agreement_of
from tests.preferences.make import add_annotator, add_comparison
from tests.preferences.ranked import Vote, any_votes, labels_of

BEST_WORST: list[Vote] = [
    ("x", "a", [[0], [1, 2], [3]]),
    ("x", "c", [[2], [0, 1], [3]]),
    ("y", "a", [[0], [1, 2], [3]]),
    ("y", "c", [[1], [0, 2], [3]]),
]
FULL: list[Vote] = [("x", "b", [[1], [0], [2], [3]])]


def partly(votes: list[Vote], partial: list[bool]) -> Labels:
    return replace(labels_of(votes), partial=np.array(partial))


def example() -> Labels:
    return partly([*BEST_WORST, *FULL], [True] * 4 + [False])


def test_agreement_by_hand() -> None:
    """In x, a and b share five pairs and agree on four, a and c three of four, b and c three of five; in y three of four.

    Units with two labels or more: + - three times, + + - once, + + + three times, + + three times.
    """
    found = agreement_of(example())
    assert (found["pairwise_agreement"]["value"], found["pairwise_agreement"]["n"]) == (pytest.approx(13 / 18), 18)
    assert found["pairwise_agreement"]["ties_excluded"] == 0
    nominal = found["krippendorff_alpha"]["nominal"]
    assert (nominal["value"], nominal["n"]) == (pytest.approx(1 - 23 * 8 / (2 * 20 * 4)), 10)
    by_chance = (20 / 24) ** 2 + (4 / 24) ** 2
    fleiss = found["fleiss_kappa"]
    assert (fleiss["value"], fleiss["n"]) == (pytest.approx(((1 / 3 + 6) / 10 - by_chance) / (1 - by_chance)), 10)
    assert {pair: kappa["n"] for pair, kappa in found["cohen_kappa"].items()} == {"a | b": 5, "a | c": 8, "b | c": 5}


def test_whole_orders_are_compared_with_whole_orders_alone() -> None:
    found = agreement_of(example())
    for name in ("kendall_tau_b", "kendall_w"):
        assert "in full by two" in found[name]["undefined"]
        assert found[name]["partial_excluded"] == 4 / 5
    more: list[Vote] = [*BEST_WORST, *FULL, ("x", "d", [[0], [1], [2], [3]])]
    found = agreement_of(partly(more, [True] * 4 + [False] * 2))
    assert found["kendall_tau_b"]["value"] == pytest.approx((5 - 1) / 6)  # b and d turn one pair of six
    assert found["kendall_w"]["value"] == pytest.approx((1 + 0.8) / 2)  # rho = 1 - 6 * 2 / (4 * 15)
    assert found["kendall_tau_b"]["partial_excluded"] == found["kendall_w"]["partial_excluded"] == 4 / 6


def test_no_pair_in_common_is_said_to_be_so() -> None:
    """b compares what a does not, and the other way round."""
    found = agreement_of(partly([("x", "a", [[0], [1, 2]]), ("x", "b", [[0, 1, 2]])], [True, True]))
    reason = {"undefined": "no two annotators compared the same two responses"}
    assert found["pairwise_agreement"] == found["fleiss_kappa"] == found["krippendorff_alpha"]["ordinal"] == reason
    assert found["cohen_kappa"] == {}


def said(votes: list[Vote], partial: list[bool]) -> dict[str, dict[Any, int]]:
    """Annotator -> (comparison, i, j) -> +1, 0 or -1, without the pairs that they did not compare."""
    found: dict[str, dict[Any, int]] = {}
    for (comparison, name, tiers), some in zip(votes, partial, strict=True):
        place = {i: tier for tier, items in enumerate(tiers) for i in items}
        for i, j in combinations(sorted(place), 2):
            if place[i] != place[j] or not some:
                found.setdefault(name, {})[comparison, i, j] = int(np.sign(place[j] - place[i]))
    return found


@settings(max_examples=60)
@given(any_votes(), st.randoms())
def test_against_slow_loops_and_libraries(votes: list[Vote], random: Any) -> None:
    partial = [random.random() < 0.5 for _ in votes]
    of_each, found = said(votes, partial), agreement_of(partly(votes, partial))
    agree = strict = every = 0
    for one, other in combinations(of_each.values(), 2):
        both = [(one[unit], other[unit]) for unit in set(one) & set(other)]
        every += len(both)
        strict += sum(x != 0 and y != 0 for x, y in both)
        agree += sum(x == y != 0 for x, y in both)
    assert found["pairwise_agreement"].get("value") == (pytest.approx(agree / strict) if strict else None)
    if strict:
        assert found["pairwise_agreement"]["ties_excluded"] == pytest.approx(1 - strict / every)
    units = sorted({unit for one in of_each.values() for unit in one}, key=str)
    data = np.array([[one.get(unit, np.nan) for unit in units] for one in of_each.values()])
    data = data[:, (~np.isnan(data)).sum(0) > 1] if data.size else data
    several = len(np.unique(data[~np.isnan(data)])) > 1
    for level in ("nominal", "ordinal"):
        value = krippendorff.alpha(data, level_of_measurement=level) if several else None
        assert found["krippendorff_alpha"][level].get("value") == (None if value is None else pytest.approx(value))
    for one, other in combinations(sorted(of_each), 2):
        table = np.zeros((3, 3))
        for unit in set(of_each[one]) & set(of_each[other]):
            table[of_each[one][unit] + 1, of_each[other][unit] + 1] += 1
        kappa = found["cohen_kappa"].get(f"{one} | {other}")
        assert (kappa is not None) == bool(table.any())
        if kappa and "value" in kappa:
            assert kappa["value"] == pytest.approx(cohens_kappa(table, return_results=False), abs=1e-12)
            assert kappa["n"] == table.sum()


def test_each_annotator_and_what_their_labels_are() -> None:
    """a: of b and c's labels on pairs that a compares too, 4 of 5 and 3 of 4 agree, and 3 of 4 in y."""
    labels = example()
    found = annotators(labels, np.zeros(len(labels)))
    assert (found["a"]["agreement"]["value"], found["a"]["agreement"]["n"]) == (pytest.approx(10 / 13), 13)
    assert (found["a"]["tied"], found["b"]["tied"]) == (0, 0)
    assert label_distribution(labels) == {
        "pairs_apart": 26, "pairs_tied": 0, "pairs_unsaid": 4, "strict": 1, "with_ties": 0, "all_tied": 0, "best_worst": 4,
    }  # fmt: skip


def test_repeats_and_the_place_shown() -> None:
    """The repeat turns best and middle round: 0 over 1 became 1 over 0, and 0 and 2 were not compared again."""
    votes: list[Vote] = [("x", "a", [[0], [1, 2], [3]]), ("x", "a", [[1], [0, 2], [3]])]
    labels = replace(partly(votes, [True, True]), repeat=np.array([False, True]))
    consistent = self_consistency(labels)
    assert (consistent["value"], consistent["n"]) == (pytest.approx(3 / 4), 4)  # 0-1 turned; 0-3, 1-3, 2-3 kept
    assert flip_rate(labels)["value"] == 1
    first = first_shown_wins(labels.where(np.array([0])))
    assert "undefined" in first  # the earlier one wins all five pairs: no finite term
    assert first_shown_wins(labels)["n"] == 10


def test_soft_labels_are_of_compared_pairs() -> None:
    labels, units = pair_labels(partly([("x", "a", [[0], [1, 2], [3]])], [True]))
    assert units.tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 1, 3], [0, 2, 3]]
    assert labels.sign.tolist() == [1] * 5


def best_worst_contests(orders: np.ndarray) -> Contests:
    """Of rankings [N, K] of model numbers, best first, the best and the worst."""
    n, k = orders.shape
    tiers = np.ones((n, k), int)
    tiers[:, 0], tiers[:, -1] = 0, 2
    apart = np.where(tiers == 1, np.arange(k), NONE)
    return Contests(orders, tiers, np.zeros((n, k, 0)), np.arange(n), [f"m{i}" for i in range(k)], apart)


def test_contests_are_between_what_was_compared() -> None:
    """Of four models, 0 best and 3 worst: five pairs; one choice among four."""
    made = best_worst_contests(np.array([[0, 1, 2, 3]]))
    pairs = {tuple(models) for models in pairs_of(made).models.tolist()}
    assert pairs == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    (of_four,) = stages_of(made)
    assert (of_four.models.tolist(), of_four.chosen.tolist()) == ([[0, 1, 2, 3]], [[True, False, False, False]])
    rates = strengths(made)["win_rates"]
    assert "m2" not in rates["m1"] and rates["m1"]["m3"]["n"] == 1


def test_equal_texts_between_best_and_worst_are_tied_all_the_same() -> None:
    """Models 1 and 2 said the text that is shown as item 1."""
    labels = partly([("x", "a", [[0], [1, 2], [3]])], [True])
    answers = Answers(
        np.array([[0, 1, 2, 3, 4]]), np.array([[0, 1, 1, 2, 3]]), np.zeros((1, 5, 0)), [f"m{i}" for i in range(5)]
    )
    pairs = pairs_of(contests_of(labels, answers))
    tied = [tuple(models) for models in pairs.models[pairs.chosen.all(1)].tolist()]
    assert tied == [(1, 2)]
    assert len(pairs) == 10 - 2  # not 1 with 3, nor 2 with 3


def test_worths_are_found_from_the_choice_of_the_best() -> None:
    """Orders drawn from Plackett-Luce with known worths, of which only the ends are known. That the others are over the
    worst must not be taken for a choice: the last worth would be 0.03.
    """
    rng = np.random.default_rng(4)
    truth = np.array([0.30, 0.25, 0.20, 0.12, 0.08, 0.05])
    orders = np.argsort(-(np.log(truth) + rng.gumbel(size=(6000, 6))), axis=1)
    found = worths(stages_of(best_worst_contests(orders)), [f"m{i}" for i in range(6)], np.full(6, 6000))["worths"]
    assert [found[f"m{i}"]["value"] for i in range(6)] == pytest.approx(truth, abs=0.012)
    for i in range(6):
        width = found[f"m{i}"]["high"] - found[f"m{i}"]["low"]
        assert abs(found[f"m{i}"]["value"] - truth[i]) < width


@pytest.mark.parametrize("noise", ["gumbel", "normal"])
def test_worths_of_best_and_worst_lie_too_far_apart_by_what_the_docs_say(noise: str) -> None:
    """For six responses: log-worths by Davidson and by Plackett-Luce, set against those of the full rankings."""
    rng = np.random.default_rng(5)
    draw = rng.gumbel if noise == "gumbel" else rng.normal
    orders = np.argsort(-(np.linspace(1, -1, 6) + draw(size=(8000, 6))), axis=1)
    both = best_worst_contests(orders)
    full = replace(both, tiers=np.broadcast_to(np.arange(6), orders.shape), apart=np.full(orders.shape, NONE))

    def factor(groups_of: Any) -> float:
        one, other = (fit(groups_of(made), Shape(6)) for made in (full, both))
        assert one is not None and other is not None
        return float(one.theta[:6] @ other.theta[:6] / (one.theta[:6] @ one.theta[:6]))

    assert 1.15 < factor(lambda made: [pairs_of(made)]) < 1.31
    assert (factor(stages_of) > 1.4) if noise == "normal" else (0.93 < factor(stages_of) < 1.07)


@pytest.mark.parametrize("mode", ["ranking", "best-worst"])
def test_out_of_a_database(store: Store, study: Study, mode: Mode) -> None:
    """The same tiers of six by two people: a tie of those between, or nothing about them."""
    made = add_comparison(store, study, texts="abcdef")
    best, *middle, worst = made.items
    tiers = [[best], middle, [worst]]
    for name in ("ann", "bob"):
        store.rankings.add_imported(add_annotator(store, name), made, tiers, mode=mode)
    found = summary.agreement(store)
    assert (found["pairwise_agreement"]["value"], found["pairwise_agreement"]["n"]) == (1, 9)
    assert found["pairwise_agreement"]["ties_excluded"] == (0 if mode == "best-worst" else pytest.approx(6 / 15))
    assert ("value" in found["kendall_tau_b"]) == (mode == "ranking")
    assert found["labels"]["pairs_unsaid"] == (12 if mode == "best-worst" else 0)
    (block,) = blocks(store.labels.read()[0])
    assert block.counts().sum() == (18 if mode == "best-worst" else 30)
    said = summary.strengths(store).get("best_worst", {})
    assert (said.get("rankings"), said.get("of")) == ((2, 2) if mode == "best-worst" else (None, None))
    assert "too far apart" in said.get("warning", "") or mode == "ranking"


def test_a_gold_answer_is_judged_by_the_pairs_that_are_compared() -> None:
    gold = [["a"], ["b"], ["c"], ["d"]]

    def judged(tiers: list[list[str]], mode: Mode) -> tuple[float, int]:
        return agreement(Ranking("r", "x", "ann", "ranking", tiers, [], "n", mode=mode), gold)

    assert judged([["a"], ["b", "c"], ["d"]], "best-worst") == (5, 5)
    assert judged([["a"], ["b", "c"], ["d"]], "ranking") == (5.5, 6)
    assert judged([["b"], ["a", "c"], ["d"]], "best-worst") == (4, 5)
    for order in permutations("abcd"):
        assert judged([[item] for item in order], "ranking")[1] == 6
