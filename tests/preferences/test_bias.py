"""Position bias, repeats, speed and the annotators' table against small cases and scipy."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from preferences.bias import active_seconds, first_shown_wins, rank_one_by_position, too_fast
from preferences.labels import NONE, Labels
from preferences.quality import annotators, label_distribution
from preferences.repeats import flip_rate, flips_to_first, self_consistency
from tests.preferences.ranked import Vote, labels_of


def shown(labels: Labels, orders: list[list[int]]) -> Labels:
    """The labels with items shown in those orders (lists of items)."""
    places = np.full(labels.shown.shape, NONE)
    for row, order in enumerate(orders):
        places[row, order] = np.arange(len(order))
    return replace(labels, shown=places)


def test_rank_one_by_position() -> None:
    """Best is item 0, shown first three times of four; a tie at the top is left out; sizes are tested apart."""
    votes: list[Vote] = [(c, "a", [[0], [1, 2]]) for c in range(4)] + [(4, "a", [[0, 1], [2]]), (5, "a", [[1], [0]])]
    labels = shown(labels_of(votes), [[0, 1, 2]] * 3 + [[1, 2, 0], [0, 1, 2], [0, 1]])
    found = rank_one_by_position(labels)
    first, second, third = found["positions"]
    assert (first["value"], first["n"], first["expected"]) == (3 / 5, 5, pytest.approx((4 / 3 + 1 / 2) / 5))
    assert (second["value"], third["value"], third["n"], third["expected"]) == (1 / 5, 1 / 4, 4, pytest.approx(1 / 3))
    expected = scipy.stats.chisquare([3, 0, 1]).statistic + scipy.stats.chisquare([0, 1]).statistic
    assert found["chi_square"]["statistic"] == pytest.approx(expected)
    assert (found["chi_square"]["df"], found["chi_square"]["n"]) == (3, 5)
    assert found["chi_square"]["p"] == pytest.approx(scipy.stats.chi2.sf(expected, 3))


def test_unknown_orders_say_nothing_of_bias() -> None:
    labels = labels_of([(0, "a", [[0], [1]])])
    blind = replace(labels, shown=np.full_like(labels.shown, NONE))
    assert "order" in rank_one_by_position(blind)["chi_square"]["undefined"]
    assert "order" in first_shown_wins(blind)["undefined"]


def test_the_first_shown_wins_by_hand_and_with_models() -> None:
    """Earlier wins 3 of 5 decided pairs. With models: the better one is always shown first, so that nothing is bias."""
    votes: list[Vote] = [(c, "a", [[0], [1]]) for c in range(5)] + [(5, "a", [[0, 1]])]
    labels = shown(labels_of(votes), [[0, 1]] * 3 + [[1, 0]] * 3)
    found = first_shown_wins(labels)
    assert (found["value"], found["n"]) == (pytest.approx(3 / 5), 6)
    rng = np.random.default_rng(0)
    many: list[Vote] = [(c, "a", [[0], [1]] if rng.random() < 0.8 else [[1], [0]]) for c in range(600)]
    uneven = shown(labels_of(many), [[0, 1] if c % 4 else [1, 0] for c in range(600)])
    models = np.where(uneven.tiers == NONE, NONE, np.arange(9))
    plain, apart = first_shown_wins(uneven), first_shown_wins(uneven, models)
    assert plain["low"] > 0.6
    assert apart["low"] < 0.5 < apart["high"]


def test_repeats() -> None:
    """x: the same; y: reversed, the first shown won both times; z: another best of three, a tie the second time."""
    votes: list[Vote] = [
        ("x", "a", [[0], [1]]), ("x", "a", [[0], [1]]), ("y", "a", [[0], [1]]), ("y", "a", [[1], [0]]),
        ("z", "a", [[0], [1], [2]]), ("z", "a", [[2], [0, 1]]), ("z", "b", [[2], [0], [1]]),
    ]  # fmt: skip
    orders = [[0, 1], [1, 0], [0, 1], [1, 0], [0, 1, 2], [2, 1, 0], [0, 1, 2]]
    labels = replace(shown(labels_of(votes), orders), repeat=np.array([False, True, False, True, False, True, False]))
    assert (self_consistency(labels)["value"], self_consistency(labels)["n"]) == (pytest.approx(1 / 4), 4)
    assert (flip_rate(labels)["value"], flip_rate(labels)["n"]) == (pytest.approx(2 / 3), 3)
    assert (flips_to_first(labels)["value"], flips_to_first(labels)["n"]) == (1, 3)
    none = labels.where(~labels.repeat)
    for found in (self_consistency(none), flip_rate(none), flips_to_first(none)):
        assert "hidden repeat" in found["undefined"]


def test_speed() -> None:
    """1,440 characters take a minute to read; a quarter of it is 15 s; 0 is not measured."""
    labels = replace(labels_of([(c, "a", [[0], [1]]) for c in range(3)]), active_ms=np.array([14_999, 15_000, 0]))
    assert too_fast(labels, np.array([1440, 1440, 1440])).tolist() == [True, False, False]
    assert active_seconds(labels)["value"] == pytest.approx(14.9995)
    assert "measured" in active_seconds(labels.where(np.array([2])))["undefined"]


def test_the_annotators_table() -> None:
    """a and b agree on x and differ on y; c agrees with both on x, ties y, and is alone with z."""
    votes: list[Vote] = [
        ("x", "a", [[0], [1]]), ("x", "b", [[0], [1]]), ("x", "c", [[0], [1]]),
        ("y", "a", [[0], [1]]), ("y", "b", [[1], [0]]), ("y", "c", [[0, 1]]), ("z", "c", [[0], [1, 2]]), ("w", "d", [[0, 1]]),
    ]  # fmt: skip
    labels = labels_of(votes)
    found = annotators(labels, np.zeros(len(labels)))
    assert list(found) == ["a", "b", "c", "d"]
    assert (found["a"]["agreement"]["value"], found["a"]["agreement"]["n"]) == (pytest.approx(2 / 3), 3)
    assert (found["c"]["agreement"]["value"], found["c"]["agreement"]["n"]) == (1, 2)
    assert "nobody else" in found["d"]["agreement"]["undefined"]
    assert (found["c"]["rankings"], found["c"]["tied"]) == (3, pytest.approx(2 / 5))
    assert label_distribution(labels) == {
        "pairs_apart": 7, "pairs_tied": 3, "pairs_unsaid": 0, "strict": 5, "with_ties": 1, "all_tied": 2, "best_worst": 0
    }  # fmt: skip


def test_a_careless_annotator_is_told_from_the_others() -> None:
    rng = np.random.default_rng(3)
    skill = {"good": 0.95, "fair": 0.85, "coin": 0.5}
    votes: list[Vote] = [
        (c, name, [[0], [1]] if rng.random() < right else [[1], [0]])
        for c in range(300)
        for name, right in skill.items()
    ]
    found = annotators(labels_of(votes), np.zeros(len(votes)))
    assert found["coin"]["agreement"]["high"] < found["fair"]["agreement"]["low"]
