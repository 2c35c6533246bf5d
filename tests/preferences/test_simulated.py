"""The simulated annotator: its rule term by term, and its noise as a Plackett-Luce judge."""

from collections import Counter

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from preferences.simulated import NOISE, TIE, rank, rule

WORDS = [f"word{i}" for i in range(100)]  # neutral, and none twice


def plain(words: int) -> str:
    """So many different neutral words, unfinished."""
    return " ".join(WORDS[:words])


@pytest.mark.parametrize("end", [".", "!", "?", "…", '."', ".)", "!**", ".’"])
def test_a_finished_sentence_is_worth_2(end: str) -> None:
    friendly = SentimentIntensityAnalyzer().polarity_scores(plain(3) + end)["compound"]
    assert rule(plain(3) + end) == pytest.approx(2 + 2 * friendly)
    assert rule(plain(3) + end + "\n ") == pytest.approx(2 + 2 * friendly)


@pytest.mark.parametrize("text", ["", "word0", "word0. word1", "word0,", "word0:"])
def test_what_does_not_finish(text: str) -> None:
    assert rule(text) == 0


def test_friendliness_is_vaders() -> None:
    for text in ("I love this wonderful idea", "This is a terrible horrible disaster"):
        assert rule(text) == pytest.approx(2 * SentimentIntensityAnalyzer().polarity_scores(text)["compound"])
    assert rule("I love this wonderful idea") > 1 > -1 > rule("This is a terrible horrible disaster")


@pytest.mark.parametrize(("words", "expected"), [(30, 0), (31, -0.05), (70, -2)])
def test_rambling(words: int, expected: float) -> None:
    assert rule(plain(words)) == pytest.approx(expected)


def test_repetition() -> None:
    """Six words that say three words twice: of four runs of three, one was said before."""
    assert rule("word0 word1 word2 word0 word1 word2") == pytest.approx(-2 * 1 / 4)


class Still:
    """A generator whose noise is given."""

    def __init__(self, noise: list[float]) -> None:
        self.noise = noise

    def gumbel(self, scale: float, size: int) -> np.ndarray:
        assert (scale, size) == (NOISE, len(self.noise))
        return np.array(self.noise)


def test_close_scores_are_tied() -> None:
    assert rank([plain(3)] * 4, Still([0.0, 1.0, 0.95, 0.3])) == [[1, 2], [3], [0]]
    assert rank([plain(3)] * 2, Still([0.0, TIE])) == [[1], [0]]
    assert rank([plain(3)], Still([0.0])) == [[0]]


def test_the_favourite_follows_plackett_luce() -> None:
    """Gumbel noise makes the first choice a softmax of the rule (Yellott 1977)."""
    texts = [plain(3), plain(3) + ".", plain(50), plain(40)]
    strengths = np.exp(np.array([rule(text) for text in texts]) / NOISE)
    rng, draws = np.random.default_rng(0), 1500
    first = Counter(rank(texts, rng)[0][0] for _ in range(draws))
    found = scipy.stats.chisquare([first[i] for i in range(4)], draws * strengths / strengths.sum())
    assert found.pvalue > 0.001


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.integers(0, 99))
def test_every_answer_is_ranked_once(texts: list[str], seed: int) -> None:
    tiers = rank(texts, np.random.default_rng(seed))
    assert sorted(i for tier in tiers for i in tier) == list(range(len(texts)))
    assert all(tiers)
