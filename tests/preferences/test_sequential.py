"""The test that may be looked at daily: its error rate by simulation, its wealth against a slow loop."""

from fractions import Fraction

import numpy as np
import pytest

from preferences import sequential
from preferences.intervals import Array
from preferences.sequential import ALPHA, confidence_sequence, decided_at, further, log_wealth, p_value

PROMPTS, STUDIES = 300, 600


def studies(win: float, tie: float = 0.2, seed: int = 0) -> Array:
    """[STUDIES, PROMPTS] points: a loss, a tie or a win."""
    chances = [1 - win - tie, tie, win]
    return np.random.default_rng(seed).choice([0.0, 0.5, 1.0], (STUDIES, PROMPTS), p=chances)


def decided(values: Array) -> Array:
    """[STUDIES] whether a study ends with a decision when it is looked at after every prompt."""
    wealth = log_wealth(values, np.array([0.5]))[..., 0]
    return np.asarray((wealth >= np.log(1 / ALPHA)).any(1))


@pytest.mark.parametrize("tie", [0.0, 0.2, 0.8])
def test_of_equal_policies_no_more_than_one_in_twenty_is_ever_called_better(tie: float) -> None:
    """The ordinary interval, looked at as often, is wrong in more than a quarter of them; this one never by chance alone."""
    values = studies((1 - tie) / 2, tie)
    wrong = decided(values).mean()
    assert wrong <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / STUDIES)
    if tie < 0.5:
        n = np.arange(1, PROMPTS + 1)
        mean = values.cumsum(1) / n
        spread = np.sqrt(np.maximum((values**2).cumsum(1) / n - mean**2, 1e-12) / n)
        looks = (np.abs(mean - 0.5) > 1.96 * spread)[:, 29:]
        assert looks.any(1).mean() > 0.25


def test_it_finds_what_is_better_and_takes_longer_for_what_is_closer() -> None:
    clear, close = decided(studies(0.6)), decided(studies(0.5))
    assert clear.mean() > 0.99 and close.mean() < clear.mean()
    values = studies(0.6)
    first = [decided_at(row) for row in values[:50]]
    assert all(first) and np.median([at for at in first if at]) < 80


def test_all_intervals_of_a_study_hold_the_mean_at_once() -> None:
    """In 95% of studies; they only ever narrow."""
    win, tie = 0.5, 0.2
    truth, missed = win + tie / 2, 0
    for row in studies(win, tie)[:200]:
        found = confidence_sequence(row)
        assert (np.diff(found.low) >= 0).all() and (np.diff(found.high) <= 0).all()
        missed += bool(((found.low > truth) | (found.high < truth)).any())
    assert missed / 200 <= ALPHA + 2 * np.sqrt(ALPHA * (1 - ALPHA) / 200)
    assert found.high[-1] - found.low[-1] < 0.25


def test_wealth_is_that_of_a_slow_gambler() -> None:
    """Who keeps two purses and knows at each bet only what was drawn before it."""
    values, mean = [1.0, 0.5, 1.0, 0.0, 1.0, 1.0] * 6, 0.4  # long enough for stakes below what may be lost at most
    purses, seen, squares = [0.5, 0.5], [], Fraction(1, 4)
    for n, value in enumerate(values, 1):
        variance = float(squares) / n
        stake = np.sqrt(2 * np.log(2 / ALPHA) / (variance * n * np.log(1 + n)))
        purses[0] *= 1 + min(stake, 0.5 / mean) * (value - mean)
        purses[1] *= 1 - min(stake, 0.5 / (1 - mean)) * (value - mean)
        seen.append(value)
        squares += (Fraction(value) - (Fraction(1, 2) + sum(map(Fraction, seen))) / (n + 1)) ** 2
        found = log_wealth(np.array(seen), np.array([mean]))[-1, 0]
        assert found == pytest.approx(np.log(max(purses)))


def test_the_wealth_of_a_fair_game_does_not_grow() -> None:
    """Each purse is a martingale: over all the ways that four bets can end, its mean is what it began with."""
    ways = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1).T
    stake = sequential.stakes(ways)
    for sign in (1, -1):
        purse = (1 + sign * np.minimum(stake, 1.0) * (ways - 0.5)).prod(1)
        assert purse.mean() == pytest.approx(1)


def test_p_values_and_decisions_say_the_same() -> None:
    for row in studies(0.5)[:40]:
        assert (p_value(row) <= ALPHA) == (decided_at(row) is not None)
    assert p_value(np.empty(0)) == 1.0 and decided_at(np.empty(0)) is None
    assert confidence_sequence(np.empty(0)).low.shape == (0,)


def test_how_long_it_will_take() -> None:
    values = studies(0.5, 0.2)[0][:40]
    assert decided_at(values) is None
    more = further(values)
    assert more is not None and 0 < more <= 800
    assert further(np.ones(100)) == 0
    assert further(np.full(30, 0.5)) is None
