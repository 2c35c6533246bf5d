"""Near-duplicate prompts, so that no held-out prompt has a twin in training."""

import re
from collections import Counter, defaultdict

THRESHOLD = 0.5


def shingles(text: str, size: int = 3) -> set[tuple[str, ...]]:
    """Runs of `size` words, lower case; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


class Clusters:
    """Groups texts whose word 3-grams overlap (Jaccard index of at least one half) with an earlier text."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self._texts: list[tuple[set[tuple[str, ...]], str]] = []
        self._holders: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, text: str, label: str) -> str:
        """The label of the most similar earlier text if it is similar enough, else `label`; the text is remembered."""
        runs = shingles(text)
        shared = Counter(holder for run in runs for holder in self._holders[run])
        best, found = self.threshold, label
        for holder, common in shared.items():
            other, other_label = self._texts[holder]
            similarity = common / (len(runs) + len(other) - common)
            if similarity >= best:
                best, found = similarity, other_label
        for run in runs:
            self._holders[run].append(len(self._texts))
        self._texts.append((runs, found))
        return found
