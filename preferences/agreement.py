"""How far annotators agree on the order of responses. Pure; formulas and sources in docs/statistics.md."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from preferences.intervals import Array, Statistic, by_prompt, divided, quotient, statistic, undefined
from preferences.labels import Block, Labels, blocks, last_of_each, pair_columns

NO_OVERLAP = "no comparison was ranked by two annotators"
NO_SHARED_PAIR = "no two annotators compared the same two responses"
NO_FULL_OVERLAP = "no comparison was ranked in full by two annotators: others name only the best and the worst"


def pairwise_agreement(blocks: Sequence[Block]) -> Statistic:
    """The share of (two annotators, two items) on which both annotators prefer one item, and prefer the same one.

    `ties_excluded`: the share of all (two annotators, two items) that is left out because one of them ties the items.
    """
    if not blocks:
        return undefined(NO_OVERLAP)
    rows = []
    for block in blocks:
        lower, tied, upper = np.moveaxis(block.counts(), -1, 0)
        agree, strict, every = choose2(upper) + choose2(lower), choose2(upper + lower), choose2(lower + tied + upper)
        rows.append(np.stack([agree.sum(1), strict.sum(1), every.sum(1)], 1))
    sums = gathered(blocks, rows)
    _, strict, every = sums.sum(0)
    if not every:
        return undefined(NO_SHARED_PAIR)
    reason = "in every pair of responses that two annotators ranked, one of them tied the two"
    found = statistic(quotient, sums, strict, (0, 1), reason)
    return {**found, "ties_excluded": float(1 - strict / every)}


def kendall_tau_b(blocks: Sequence[Block]) -> Statistic:
    """tau-b between the rank vectors of two annotators, mean over the pairs of annotators, then over comparisons.

    A constant vector (all items tied) has no tau-b: pairs of annotators with one are left out, and `undefined_pairs`
    counts them. n: comparisons with a defined pair.

    tau-b is the cosine of two vectors of signs (Kendall 1945), so the mean over pairs follows from the sum of the M unit
    vectors v: (|sum v|^2 - M) / (M (M - 1)).
    """
    if not blocks:
        return undefined(NO_OVERLAP)
    rows = []
    for block in blocks:
        signs = block.signs.astype(float)
        length = np.sqrt((signs**2).sum(2, keepdims=True))
        units = np.divide(signs, length, out=np.zeros_like(signs), where=length > 0)
        usable = (length[..., 0] > 0).sum(1)
        mean = divided(((units.sum(1) ** 2).sum(1) - usable) / 2, choose2(usable))
        left_out = choose2(block.signs.shape[1]) - choose2(usable)
        rows.append(np.stack([np.nan_to_num(mean), usable >= 2, left_out], 1))
    sums = gathered(blocks, rows)
    _, comparisons, left_out = sums.sum(0)
    reason = "in every comparison that two annotators ranked, at most one of them did not tie all responses"
    found = statistic(quotient, sums, comparisons, (-1, 1), reason)
    return {**found, "undefined_pairs": int(left_out)}


def kendall_w(blocks: Sequence[Block]) -> Statistic:
    """Kendall's W with the correction for ties, of each comparison with two annotators or more; mean over comparisons.

    W = 12 S / (m^2 (k^3 - k) - m sum T), S: squared deviations of the items' rank sums, T: t^3 - t over an annotator's
    ties of t items (Kendall & Gibbons 1990). Undefined where all annotators tie all items. n: comparisons with a W.
    """
    if not blocks:
        return undefined(NO_OVERLAP)
    rows = []
    for block in blocks:
        w = concordance(block)
        rows.append(np.stack([np.nan_to_num(w), np.isfinite(w)], 1))
    sums = gathered(blocks, rows)
    reason = "in every comparison that two annotators ranked, all of them tied all responses"
    return statistic(quotient, sums, sums.sum(0)[1], (0, 1), reason)


def concordance(block: Block) -> Array:
    """[C] W of each comparison, nan where all its annotators tie all its items."""
    k, m = block.items, block.signs.shape[1]
    first, second = pair_columns(k)
    place = np.zeros((len(first), k))  # an item's mean rank is (k + 1) / 2 less half of (wins - losses)
    place[np.arange(len(first)), first], place[np.arange(len(first)), second] = -0.5, 0.5
    deviation = (block.signs.astype(float) @ place).sum(1)
    # An annotator's mean ranks have the squared deviations (k^3 - k - T) / 12, which is how T need not be counted.
    spread = ((block.signs.astype(float) @ place) ** 2).sum((1, 2))
    return divided((deviation**2).sum(1), m * spread)


def of_full_rankings(formula: Callable[[Sequence[Block]], Statistic], labels: Labels) -> Statistic:
    """A statistic of whole rank vectors, from the rankings that place every item against every other.

    `partial_excluded`, where there are any: the share of the rankings that is left out because they do not.
    """
    once = last_of_each(labels)
    if not once.partial.any():
        return formula(list(blocks(once)))
    whole = list(blocks(once.where(~once.partial)))
    found = formula(whole) if whole or not any(blocks(once)) else undefined(NO_FULL_OVERLAP)
    return {**found, "partial_excluded": float(once.partial.mean())}


def choose2(n: Array) -> Array:
    """How many pairs there are of n things."""
    count = np.asarray(n)
    return np.asarray(count * (count - 1) / 2)


def gathered(blocks: Iterable[Block], rows: Sequence[Array]) -> Array:
    """[P, D] sums of each prompt, from rows [C, D] for the comparisons of each block."""
    return by_prompt(np.concatenate([block.prompt for block in blocks]), np.concatenate(rows).astype(float))


def ceiling(agreement: Statistic) -> Statistic:
    """The accuracy on single labels that a perfect reward model reaches, if two annotators agree on a share p of pairs.

    Each label is taken to be right with the same chance q, independently: p = q^2 + (1 - q)^2, so q = (1 + sqrt(2p - 1)) / 2.
    """
    if "undefined" in agreement:
        return undefined(agreement["undefined"])
    if agreement["value"] < 0.5:
        return undefined("annotators agree less often than by chance, which no chance of being right explains")
    bound = {name: (1 + max(0.0, 2 * agreement[name] - 1) ** 0.5) / 2 for name in ("value", "low", "high")}
    return {**bound, "n": agreement["n"]}
