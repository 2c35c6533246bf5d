"""Calibration against closed forms and made data whose chances are known."""

import math

import numpy as np
import pytest
from scipy.special import expit

from trainer.calibration import Bin, brier, chances, ece, fit_temperature, log_loss, reliability


def test_by_hand() -> None:
    gaps, shares = [0.0, math.log(3), -math.log(9)], [1.0, 1.0, 0.75]
    assert chances(gaps).tolist() == pytest.approx([0.5, 0.75, 0.1])
    assert brier(gaps, shares) == pytest.approx((0.25 + 0.0625 + 0.65**2) / 3)
    expected = -(math.log(0.5) + math.log(0.75) + 0.75 * math.log(0.1) + 0.25 * math.log(0.9)) / 3
    assert log_loss(gaps, shares) == pytest.approx(expected)
    assert chances(gaps, 2.0)[1] == pytest.approx(3**0.5 / (1 + 3**0.5))


def test_bins_look_at_the_models_own_choice() -> None:
    """Sure of the wrong one is confidence too; undecided is right by half."""
    sure, rather = math.log(0.93 / 0.07), math.log(0.63 / 0.37)
    found = reliability([sure, -sure, 0.0, rather], [1.0, 1.0, 1.0, 0.75])
    assert [(b.count, round(b.confidence, 6), b.right) for b in found] == [
        (1, 0.5, 0.5),
        (1, 0.63, 0.75),
        (2, 0.93, 0.5),
    ]
    assert ece(found) == pytest.approx((0 + 0.12 + 2 * 0.43) / 4)


def test_the_temperature_is_found_again() -> None:
    """Labels drawn with chances of gap / 2.5: that is the divisor, and with it the confidence is right."""
    rng = np.random.default_rng(0)
    gaps = rng.normal(scale=5, size=40_000)
    wins = rng.random(40_000) < expit(gaps / 2.5)
    preferred = np.where(wins, gaps, -gaps)
    found = fit_temperature(preferred.tolist(), [1.0] * len(gaps))
    assert found == pytest.approx(2.5, rel=0.03)
    raw, tempered = (ece(reliability(preferred / t, [1.0] * len(gaps))) for t in (1.0, found))
    assert tempered < 0.01 and raw > 0.05
    assert log_loss(preferred.tolist(), [1.0] * len(gaps), found) < log_loss(preferred.tolist(), [1.0] * len(gaps))


def test_what_is_always_right_stays_finite() -> None:
    assert math.isfinite(fit_temperature([1.0, 2.0], [1.0, 1.0]))
    assert ece([Bin(3, 1.0, 1.0)]) == 0
