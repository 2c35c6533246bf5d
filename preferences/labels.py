"""Rankings as columns: what the statistics are computed from. Pure: arrays in, arrays out."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 9  # responses of a comparison
NONE = -1
UNSAID = 9  # the sign of a pair that a ranking does not compare

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labels:
    """N full rankings; every field but `names` has N rows.

    `tiers` [N, 9]: the tier (0 is best) of each item, in the record's own order of items; -1 beyond the last item.
    `shown` [N, 9]: the place (0 is first) at which that item was shown; -1 where that is not known.
    `comparison`, `prompt`, `annotator` [N]: numbers from 0; `names`: what the annotators are called.
    `active_ms`, `created` [N]: milliseconds of active time (0: not measured); seconds since the epoch.
    `repeat` [N]: True where the annotator had ranked the comparison before and did it again, without being told.
    `partial` [N]: True where only the best and the worst were named: items of one tier are not tied but were not compared.
    """

    comparison: Ints
    prompt: Ints
    annotator: Ints
    tiers: Ints
    shown: Ints
    active_ms: Ints
    created: Floats
    repeat: Bools
    partial: Bools
    names: list[str]

    def __len__(self) -> int:
        return len(self.comparison)

    def items(self) -> Ints:
        """[N] how many items each ranking has."""
        return np.asarray((self.tiers != NONE).sum(1))

    def where(self, rows: Bools | Ints) -> "Labels":
        """Only those rows."""
        columns = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "names"}
        return Labels(**columns, names=self.names)


@dataclass(frozen=True, slots=True)
class Asked:
    """C comparisons: `comparisons` [C] their ids; `prompt` [C]: numbers below `prompts`; `created` [C]: seconds.

    `wanted` [C]: how many people should rank it; `heldout` [C]; `equal` [C]: all its answers are the same text, so that
    nobody ranks it.
    """

    comparisons: list[str]
    prompt: Ints
    prompts: int
    wanted: Ints
    created: Floats
    heldout: Bools
    equal: Bools


@dataclass(frozen=True, slots=True)
class Block:
    """C comparisons of K items that M annotators ranked each; U = K(K-1)/2 pairs of items i < j, in the record's order.

    `signs` [C, M, U]: +1 if the annotator puts i above j, -1 if below, 0 if they are tied, UNSAID if they were not compared.
    `annotators` [C, M], `prompt` [C].
    """

    items: int
    signs: NDArray[np.int8]
    annotators: Ints
    prompt: Ints

    def counts(self) -> Ints:
        """[C, U, 3] how many annotators said -1, 0 and +1; together fewer than M where some did not compare the two."""
        return np.stack([(self.signs == value).sum(1) for value in (-1, 0, 1)], axis=-1)


def pair_columns(items: int) -> tuple[Ints, Ints]:
    """The pairs i < j as two columns: (0, 1), (0, 2), ..., (1, 2), ..."""
    return np.triu_indices(items, 1)


def signs_of(tiers: Ints, items: int, partial: Bools | None = None) -> NDArray[np.int8]:
    """[..., U] from [..., >= items]: +1 where item i of a pair i < j has the better (smaller) tier.

    `partial` [...]: True where two items of one tier were not compared, which makes their sign UNSAID.
    """
    first, second = pair_columns(items)
    signs: NDArray[np.int8] = np.sign(tiers[..., second].astype(np.int16) - tiers[..., first]).astype(np.int8)
    if partial is not None:
        signs[partial[..., None] & (signs == 0)] = UNSAID
    return signs


def blocks(labels: Labels, least: int = 2) -> Iterator[Block]:
    """The rankings by number of items and of annotators, of comparisons that at least so many annotators ranked.

    An annotator counts once a comparison, with the last of their rankings.
    """
    labels = last_of_each(labels)
    order = np.lexsort((labels.annotator, labels.comparison))
    labels = labels.where(order)
    _, start, raters = np.unique(labels.comparison, return_index=True, return_counts=True)
    items = labels.items()[start] if len(start) else raters
    for k, m in sorted({(int(k), int(m)) for k, m in zip(items, raters, strict=True) if m >= least}):
        rows = start[(items == k) & (raters == m)][:, None] + np.arange(m)
        signs = signs_of(labels.tiers[rows], k, labels.partial[rows])
        yield Block(k, signs, labels.annotator[rows], labels.prompt[rows[:, 0]])


def last_of_each(labels: Labels) -> Labels:
    """One ranking for each annotator and comparison: the last."""
    if not len(labels):
        return labels
    key = labels.comparison.astype(np.int64) * (int(labels.annotator.max()) + 1) + labels.annotator
    _, last = np.unique(key[::-1], return_index=True)
    return labels.where(np.sort(len(key) - 1 - last))
