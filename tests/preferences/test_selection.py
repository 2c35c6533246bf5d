"""What makes a prompt worth asking about, and the two arms."""

import numpy as np
import pytest

from preferences.selection import RANDOM, SELECTED, arms, closeness, disagreement, random_arm, selected_arm


def logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))


def test_disagreement_is_of_the_members_and_closeness_of_their_mean() -> None:
    """Of two answers: one member is sure of the first, one of the second; or both are undecided; or both are sure."""
    split, even, sure = (np.array([[logit(a), 0.0], [logit(b), 0.0]]) for a, b in ((0.9, 0.1), (0.5, 0.5), (0.9, 0.9)))
    assert disagreement(split) == pytest.approx(0.4)
    assert disagreement(even) == disagreement(sure) == pytest.approx(0)
    assert closeness(split) == pytest.approx(1) and closeness(even) == pytest.approx(1)
    assert closeness(sure) == pytest.approx(0.2)


def test_of_more_answers_the_mean_over_pairs() -> None:
    """Only the pairs with the third answer are disputed: two of three."""
    scores = np.array([[0.0, 0.0, logit(0.9)], [0.0, 0.0, logit(0.1)]])
    assert disagreement(scores) == pytest.approx(2 / 3 * 0.4)
    assert disagreement(scores + 7) == pytest.approx(2 / 3 * 0.4)  # where the scores are is no matter


def test_the_random_arm_is_fair_and_has_its_share() -> None:
    rng = np.random.default_rng(0)
    counts = np.zeros(6)
    for _ in range(3000):
        for picked in random_arm(6, 2, rng):
            assert picked.arm == RANDOM
            counts[picked.index] += 1
    assert counts / 3000 == pytest.approx([1 / 3] * 6, abs=0.04)
    assert sum(arms(4, 0.3, rng) for _ in range(3000)) / 12_000 == pytest.approx(0.3, abs=0.02)
    assert [one.index for one in random_arm(2, 5, rng)] in ([0, 1], [1, 0])


def test_the_selected_arm_takes_the_highest() -> None:
    picked = selected_arm([0.1, 0.9, 0.9, 0.3], [7, 3, 5, 1], 3)
    assert [(one.index, one.arm) for one in picked] == [(3, SELECTED), (5, SELECTED), (1, SELECTED)]
    assert selected_arm([], [], 3) == []
