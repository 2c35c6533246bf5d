"""What a reward model must beat: words and length alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from trainer.ranked import Ranked


class TextBaseline:
    """A linear model of TF-IDF and log length: Bradley-Terry, as a logistic regression of differences of decided pairs."""

    def __init__(self, ranked: Sequence[Ranked], strength: float = 1.0) -> None:
        texts = sorted({text for r in ranked for text in r.texts})
        words = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", min_df=2 if len(texts) > 50 else 1
        )
        try:
            self.words = words.fit(texts)
        except ValueError:  # no word at all, or none twice
            self.words = None
        self.scale = max(1e-6, float(np.std([log_length(text) for text in texts])))
        rows = [(r, better, worse, share) for r in ranked for better, worse, share in r.pairs]
        first = self.features([r.texts[better] for r, better, _, _ in rows])
        second = self.features([r.texts[worse] for r, _, worse, _ in rows])
        share = np.array([share for *_, share in rows])
        weight = np.array([r.weight for r, *_ in rows])
        weight /= weight.mean()
        # Each pair from both sides, as a win by its share: the fit needs both classes, and no side to be named first.
        x = vstack([first - second, second - first])
        y, parts = np.repeat([1, 0], len(rows)), np.concatenate([weight * share] * 2) / 2
        minority = np.concatenate([weight * (1 - share)] * 2) / 2
        self.model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000)
        self.model.fit(vstack([x, x]), np.concatenate([y, 1 - y]), np.concatenate([parts, minority]))

    def features(self, texts: Sequence[str]) -> Any:
        """(texts, words + 1) sparse: TF-IDF (if there are words), and log length in standard deviations."""
        length = csr_matrix([[log_length(text) / self.scale] for text in texts])
        return hstack([self.words.transform(texts), length]).tocsr() if self.words else length

    def scores(self, ranked: Sequence[Ranked]) -> list[list[float]]:
        """A score for each answer of each comparison."""
        return [[float(x) for x in self.features(r.texts) @ self.model.coef_[0]] for r in ranked]


def log_length(text: str) -> float:
    """Of the characters."""
    return float(np.log1p(len(text)))
