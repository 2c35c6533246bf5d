"""Agreement beyond chance on labels of pairs: -1, 0 (tie) or +1 for each unit (comparison, i < j). Pure.

A unit's sign is oriented by the record's own order of responses; whoever did not compare the two gives it no label. Formulas
and sources in docs/statistics.md.
"""

from collections.abc import Sequence
from typing import Literal

import krippendorff
import numpy as np

from preferences.agreement import NO_OVERLAP, NO_SHARED_PAIR, choose2, gathered
from preferences.intervals import CELLS, Array, Statistic, divided, statistic, undefined
from preferences.labels import UNSAID, Block, pair_columns

VALUES = np.array([-1, 0, 1])
ONE_VALUE = "annotators gave one and the same label to every pair, so that nothing can be said about chance"
Level = Literal["nominal", "ordinal"]


def krippendorff_alpha(blocks: Sequence[Block], level: Level) -> Statistic:
    """Krippendorff's alpha; missing annotators are allowed. n: units with two labels or more.

    The value is the krippendorff library's; the interval comes from the coincidences of each prompt.
    """
    if not blocks:
        return undefined(NO_OVERLAP)
    counts = [block.counts() for block in blocks]
    sums = gathered(blocks, [coincidences(of_block).sum(1).reshape(-1, 9) for of_block in counts])
    every = np.concatenate([of_block.reshape(-1, 3) for of_block in counts])
    units = every[every.sum(1) > 1]
    if not len(units):
        return undefined(NO_SHARED_PAIR)
    found = statistic(
        lambda total: alpha(total.reshape(*total.shape[:-1], 3, 3), level), sums, len(units), (-1, 1), ONE_VALUE
    )
    if "undefined" not in found:
        found["value"] = float(krippendorff.alpha(value_counts=units, value_domain=VALUES, level_of_measurement=level))
    return found


def coincidences(counts: Array) -> Array:
    """[..., V, V] of units with `counts` [..., V] labels of each value (Krippendorff 2011, step 2); 0 for a single label."""
    raters = counts.sum(-1)[..., None, None]
    pairs = counts[..., :, None] * counts[..., None, :] - counts[..., None] * np.eye(counts.shape[-1])
    return np.asarray(pairs / np.maximum(raters - 1, 1))


def alpha(observed: Array, level: Level) -> Array:
    """[...] alpha of matrices of coincidences [..., V, V]; nan where only one value occurs."""
    totals = observed.sum(-1)
    distance = distances(totals, level)
    found = (observed * distance).sum((-2, -1))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum((-2, -1))
    return 1 - divided((totals.sum(-1) - 1) * found, expected)


def distances(totals: Array, level: Level) -> Array:
    """[..., V, V] squared differences between values that occur `totals` [..., V] times (Krippendorff 2011, step 4)."""
    values = totals.shape[-1]
    if level == "nominal":
        return 1 - np.eye(values)
    upto = totals.cumsum(-1)
    middle = upto - totals / 2
    return np.asarray((middle[..., :, None] - middle[..., None, :]) ** 2)


def fleiss_kappa(blocks: Sequence[Block]) -> Statistic:
    """Fleiss' kappa (1971), with units of different numbers of annotators: each unit's agreement counts once.

    Shares of the values are over all labels. n: units with two labels or more.
    """
    if not blocks:
        return undefined(NO_OVERLAP)
    rows = []
    for block in blocks:
        counts = block.counts()
        unit = counts.sum(-1) > 1
        agree = choose2(counts).sum(-1) / np.maximum(choose2(counts.sum(-1)), 1)
        rows.append(np.column_stack([agree.sum(1), unit.sum(1), (counts * unit[..., None]).sum(1)]))
    sums = gathered(blocks, rows)
    units = sums.sum(0)[1]
    return statistic(fleiss, sums, units, (-1, 1), ONE_VALUE if units else NO_SHARED_PAIR)


def fleiss(total: Array) -> Array:
    """[...] kappa from [..., 5]: summed agreement of the units, number of units, labels of each value."""
    observed = divided(total[..., 0], total[..., 1])
    expected = (divided(total[..., 2:], total[..., 2:].sum(-1, keepdims=True)) ** 2).sum(-1)
    return divided(observed - expected, np.where(np.isclose(expected, 1), 0, 1 - expected))


def cohen_kappas(blocks: Sequence[Block]) -> dict[tuple[int, int], Statistic]:
    """Cohen's kappa (1960) of each two annotators (lower number first) who share a unit. n: the units they share."""
    found = {}
    for pair, table in confusions(blocks).items():
        if table.any():
            found[pair] = statistic(cohen, table, table.sum(), (-1, 1), ONE_VALUE)
    return found


def confusions(blocks: Sequence[Block]) -> dict[tuple[int, int], Array]:
    """(a, b) -> [P, 9]: for each prompt that they share, how often a said -1, 0, +1 (rows) and b did (columns)."""
    parts = [part for block in blocks for part in shared_labels(block)]
    if not parts:
        return {}
    pairs, prompts, cells = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys, number = np.unique(np.stack([pairs[:, 0], pairs[:, 1], prompts], 1), axis=0, return_inverse=True)
    tables = np.stack([np.bincount(number.ravel(), column, len(keys)) for column in cells.T], 1)
    _, starts = np.unique(keys[:, :2], axis=0, return_index=True)
    ends = [*starts[1:], len(keys)]
    return {
        (int(keys[start, 0]), int(keys[start, 1])): tables[start:end]
        for start, end in zip(starts, ends, strict=True)
    }  # fmt: skip


def shared_labels(block: Block) -> list[tuple[Array, Array, Array]]:
    """For some comparisons at a time and each two annotators of each: who, [n, 2]; the prompt, [n]; counts, [n, 9]."""
    first, second = pair_columns(block.signs.shape[1])
    step = max(1, CELLS // (9 * len(first)))
    parts = []
    for at in range(0, len(block.prompt), step):
        signs, people = block.signs[at : at + step], block.annotators[at : at + step]
        one, other = signs[:, first], signs[:, second]
        cell = np.where((one == UNSAID) | (other == UNSAID), UNSAID, (one + 1) * 3 + other + 1)
        counts = np.stack([(cell == value).sum(2) for value in range(9)], -1).reshape(-1, 9)
        who = np.stack([people[:, first], people[:, second]], -1).reshape(-1, 2)
        parts.append((who, np.repeat(block.prompt[at : at + step], len(first)), counts))
    return parts


def cohen(total: Array) -> Array:
    """[...] kappa from [..., 9]: a table of two annotators' labels, row by row."""
    table = total.reshape(*total.shape[:-1], 3, 3)
    n = table.sum((-2, -1))
    observed = divided(np.trace(table, axis1=-2, axis2=-1), n)
    expected = divided((table.sum(-1) * table.sum(-2)).sum(-1), n**2)
    return divided(observed - expected, np.where(np.isclose(expected, 1), 0, 1 - expected))
