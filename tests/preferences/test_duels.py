"""Win rates by hand, at equal length against another library's fit, and how many labels are still needed."""

import numpy as np
import pytest
import statsmodels.api as sm

from preferences.choices import Choices
from preferences.contests import Answers, contests_of
from preferences.duels import at_equal_length, duel, labels_needed, points_of, sequential, win_rate
from preferences.intervals import Array
from preferences.labels import NONE
from tests.preferences.ranked import Vote, labels_of

NAMES = ["sft", "ppo", "human"]


def met(votes: list[Vote], models: list[list[int]], items: list[list[int]] | None = None) -> Choices:
    """ppo against sft; `models`: whose the responses of each comparison are, `items`: as which item each was shown."""
    width = max(map(len, models))
    pad = [[*row, *[NONE] * (width - len(row))] for row in models]
    shown = [[*row, *[NONE] * (width - len(row))] for row in items or [list(range(len(row))) for row in models]]
    answers = Answers(np.array(pad), np.array(shown), np.zeros((len(models), width, 1)), NAMES)
    return duel(contests_of(labels_of(votes), answers), 1, 0)


def test_each_prompt_counts_the_same() -> None:
    """x: ppo beats one sft answer and ties another, the human's aside; y: loses in the eyes of two; z: nobody meets."""
    votes: list[Vote] = [
        ("x", "a", [[0], [1, 2], [3]]),
        ("y", "a", [[0], [1]]),
        ("y", "b", [[0], [1]]),
        ("z", "a", [[0], [1]]),
    ]
    pairs = met(votes, [[2, 0, 1, 0], [0, 1], [0, 2]])
    found = points_of(pairs)
    assert found.points.tolist() == [0.75, 0.0] and found.pairs.tolist() == [2, 2]
    assert pairs.weight.tolist() == [0.5] * 4
    rate = win_rate(found.points)
    assert (rate["value"], rate["n"]) == (0.375, 2)
    assert win_rate(np.empty(0))["undefined"].startswith("no one has ranked answers of the two")


def test_equal_texts_credit_every_policy() -> None:
    """sft and ppo said what was shown as item 0, which came first; the human's came second: the two are tied."""
    pairs = met([("x", "a", [[0], [1]])], [[0, 1, 2]], [[0, 0, 1]])
    assert points_of(pairs).points.tolist() == [0.5]


def of_lengths(won: Array, gap: Array, prompt: Array | None = None) -> Choices:
    """Pairs of answers: points of the first, how many doublings longer it is."""
    features = np.stack([gap, np.zeros(len(gap))], 1)[..., None]
    chosen = np.stack([won >= 0.5, won <= 0.5], 1)
    prompt = np.arange(len(won)) if prompt is None else prompt
    return Choices(np.tile([0, 1], (len(won), 1)), chosen, np.ones(len(won)), prompt, features)


def drawn(n: int, better: float, length: float, longer: float, seed: int = 0) -> Choices:
    """Wins by a logistic law: so much better, so much for a doubling, the first answers longer by so much on average."""
    rng = np.random.default_rng(seed)
    gap = longer + rng.normal(size=n)
    return of_lengths((rng.random(n) < 1 / (1 + np.exp(-better - length * gap))).astype(float), gap)


def test_at_equal_length_without_ties_is_a_logistic_regression() -> None:
    pairs = drawn(400, 0.3, 0.8, 0.5)
    gap = pairs.features[:, 0, 0] - pairs.features[:, 1, 0]
    truth = sm.Logit(pairs.chosen[:, 0].astype(float), np.stack([np.ones(400), gap], 1)).fit(disp=0)
    found = at_equal_length(pairs)
    assert found["win_rate"]["value"] == pytest.approx(1 / (1 + np.exp(-truth.params[0])), abs=1e-6)
    assert found["effect"]["value"] == pytest.approx(truth.params[1], abs=1e-6)
    low, high = truth.conf_int()[1]
    assert found["effect"]["low"] == pytest.approx(low, abs=0.1) and found["effect"]["high"] == pytest.approx(
        high, abs=0.1
    )


def test_a_policy_that_only_writes_more_wins_half_at_equal_length() -> None:
    pairs = drawn(3000, 0.0, 1.0, 1.5)
    assert win_rate(points_of(pairs).points)["low"] > 0.7
    found = at_equal_length(pairs)["win_rate"]
    assert found["low"] < 0.5 < found["high"] and found["high"] - found["low"] < 0.12


def test_if_length_says_nothing_it_is_the_win_rate() -> None:
    """Ties included: wins, ties and losses are as many at each of two lengths."""
    won = np.array([1.0] * 6 + [0.5] * 4 + [0.0] * 2)
    found = at_equal_length(of_lengths(np.tile(won, 2), np.repeat([-1.0, 1.0], len(won))))
    assert found["win_rate"]["value"] == pytest.approx(won.mean())
    assert found["effect"]["value"] == pytest.approx(0, abs=1e-9)


def test_why_there_is_none_at_equal_length() -> None:
    gap = np.array([0.0, 1.0, 2.0])
    assert "never lost" in at_equal_length(of_lengths(np.ones(3), gap))["win_rate"]["undefined"]
    alike = at_equal_length(of_lengths(np.array([1.0, 0.0, 1.0]), np.zeros(3)))
    assert "by the same factor" in alike["win_rate"]["undefined"]
    longer = at_equal_length(of_lengths(np.array([1.0, 0.0, 1.0]), gap + 0.5))
    assert "always wrote the longer answer" in longer["win_rate"]["undefined"]
    none = of_lengths(np.empty(0), np.empty(0))
    assert "no one has ranked" in at_equal_length(none)["effect"]["undefined"]


def test_how_many_labels_are_needed() -> None:
    """None where the interval excludes one half. At 55 of 100 prompts sd is 0.5 and (1.96 * 0.5 / 0.05)^2 = 384.2."""
    some = np.repeat([1.0, 0.0], [64, 36])
    assert win_rate(some)["low"] > 0.5
    assert labels_needed(some, 200) == {"value": 0, "low": 0, "high": 0, "n": 100, "prompts": 0}
    close = np.repeat([1.0, 0.0], [55, 45])
    found = labels_needed(close, 200)
    assert (found["prompts"], found["value"]) == (285, 570) and found["high"] is None
    assert 0 <= found["low"] < found["value"]
    doubled = np.tile(close, 8)
    assert labels_needed(doubled, 1600)["value"] == 0  # that is enough prompts
    assert "exactly one half" in labels_needed(np.array([1.0, 0.0]), 2)["undefined"]
    assert "same way" in labels_needed(np.ones(5), 5)["undefined"]
    assert "fewer than two" in labels_needed(np.ones(1), 1)["undefined"]


def test_the_sequential_decision() -> None:
    better = sequential(np.tile([1.0, 1.0, 0.5, 1.0, 0.0], 40), each=3)
    assert better["decision"] == "better" and better["low"] > 0.5 and better["p"] < 0.05
    assert better["labels_needed"] == 0 and better["decided_at"] < 200
    assert better["looks"][-1][0] == 200 and len(better["looks"]) == 200
    worse = sequential(np.tile([0.0, 0.0, 0.5, 0.0, 1.0], 40), each=3)
    assert worse["decision"] == "worse" and worse["high"] < 0.5
    assert worse["low"] == pytest.approx(1 - better["high"], abs=1e-9)
    still = sequential(np.array([1.0, 1.0, 0.0, 0.5, 1.0, 1.0]), each=3)
    assert still["decision"] == "open" and still["decided_at"] is None and still["labels_needed"] % 3 == 0
    assert sequential(np.empty(0), each=3)["decision"] == "open"
