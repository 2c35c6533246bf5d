"""Which checkpoint is recommended: from the frontier, near the start, never one that people like less."""

import numpy as np
import pytest

from trainer.frontier import Checkpoint, choice, frontier

NOISE = np.array([-1.0, 1.0] * 20)


def checkpoint(name: str, kl: float, score: float, noise: float = 0.0, worse: bool = False) -> Checkpoint:
    """Forty prompts; `noise` moves every other one up and the others down."""
    return Checkpoint(name, kl, score + noise * NOISE, worse)


START = checkpoint("sft", 0.0, 0.0)


def test_the_frontier_has_no_checkpoint_that_another_one_beats() -> None:
    """c scores less than b at more KL; d equals b, and both stay; e has the most of both."""
    points = [checkpoint(*of) for of in (("a", 1, 0.2), ("b", 2, 0.5), ("c", 3, 0.4), ("d", 2, 0.5), ("e", 9, 0.9))]
    assert frontier(points) == [True, True, False, True, True]


def test_the_highest_is_taken_where_the_others_are_clearly_lower() -> None:
    """It went over the top: the last one has lost most of it again."""
    points = [checkpoint("@3", 1.0, 0.5), checkpoint("@6", 2.0, 1.0), checkpoint("last", 6.0, 0.3)]
    found = choice(START, points)
    assert found.index == 1
    assert "highest held-out score of the frontier, 1.00, at a KL of 2.00" in found.reason
    assert found.reason.endswith("the last one scores 0.30 at more KL (6.00).")


def test_of_what_cannot_be_told_apart_the_nearest_is_taken() -> None:
    """0.9 and 1.0 with noise of one standard deviation: the standard error of the difference is 1 / sqrt(39)."""
    points = [checkpoint("@3", 1.0, 0.9, 1.0), checkpoint("last", 4.0, 1.0)]
    found = choice(START, points)
    assert found.index == 0 and "within one standard error of the best (last, 1.00)" in found.reason
    closer = [checkpoint("@3", 1.0, 0.8, 1.0), checkpoint("last", 4.0, 1.0)]
    assert choice(START, closer).index == 1
    assert choice(START, closer).reason.endswith("it happens to be the last.")


def test_the_start_stays_if_nothing_is_gained() -> None:
    found = choice(START, [checkpoint("@3", 1.0, 0.1, 1.0), checkpoint("last", 2.0, -0.5)])
    assert found.index is None
    assert "@3, scores 0.10, which is within one standard error of sft's 0.00" in found.reason


def test_people_have_the_last_word() -> None:
    points = [checkpoint("@3", 1.0, 0.5), checkpoint("last", 2.0, 1.0, worse=True)]
    found = choice(START, points)
    assert found.index == 0
    assert found.reason.endswith("Left out because people prefer the start: last.")
    assert choice(START, [checkpoint("last", 2.0, 1.0, worse=True)]).index is None


@pytest.mark.parametrize("count", [1, 2])
def test_with_a_prompt_or_two(count: int) -> None:
    one = Checkpoint("last", 1.0, np.ones(count))
    assert choice(Checkpoint("sft", 0.0, np.zeros(count)), [one]).index == 0
