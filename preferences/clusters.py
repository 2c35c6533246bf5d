"""Near-duplicate prompts, so that no held-out prompt has a twin in training."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

THRESHOLD = 0.5


def shingles(text: str, size: int = 3) -> set[tuple[str, ...]]:
    """Runs of `size` words, lower case; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def twins(texts: Sequence[str], threshold: float = THRESHOLD) -> Iterator[tuple[int, int, float]]:
    """(i, j, similarity), j < i, for every two texts whose shingles have a Jaccard index of at least `threshold`."""
    runs = [shingles(text) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, mine in enumerate(runs):
        for j, shared in Counter(holder for run in mine for holder in holders[run]).items():
            similarity = shared / (len(mine) + len(runs[j]) - shared)
            if similarity >= threshold:
                yield i, j, similarity
        for run in mine:
            holders[run].append(i)


def cluster(known: Sequence[tuple[str, str]], new: Mapping[str, str]) -> dict[str, str]:
    """The cluster of each new text. `known`: (text, its cluster), which stays; `new`: id -> text.

    New texts that are linked by twins, directly or through each other, share one cluster: that of the known text most
    similar to any of them, else the least of their ids, so that the order of a file does not matter.
    """
    ids = list(new)
    parents = {ident: ident for ident in ids}
    nearest: dict[str, tuple[float, str]] = {}

    def root(ident: str) -> str:
        while parents[ident] != ident:
            ident = parents[ident]
        return ident

    for i, j, similarity in twins([text for text, _ in known] + list(new.values())):
        if i < len(known):
            continue
        ident = ids[i - len(known)]
        if j < len(known):
            nearest[ident] = max(nearest.get(ident, (0.0, "")), (similarity, known[j][1]))
        else:
            low, high = sorted((root(ident), root(ids[j - len(known)])))
            parents[high] = low
    joined: dict[str, tuple[float, str]] = {}
    for ident, found in nearest.items():
        joined[root(ident)] = max(joined.get(root(ident), (0.0, "")), found)
    return {ident: joined[root(ident)][1] if root(ident) in joined else root(ident) for ident in ids}
