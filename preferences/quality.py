"""How good each annotator's labels are, as far as others' and their own can tell. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from preferences.agreement import choose2
from preferences.bias import active_seconds, too_fast
from preferences.intervals import Array, Statistic, by_prompt, quotient, statistic
from preferences.labels import MOST, NONE, UNSAID, Block, Labels, blocks
from preferences.repeats import self_consistency

ALONE = "nobody else has put apart a pair of responses that this annotator put apart"


def annotators(labels: Labels, characters: Array) -> dict[str, dict[str, Any]]:
    """name -> what is known of an annotator, by name; `characters` [N]: the length of what each ranking had to be read for.

    `rankings`; `agreement`: see `agreement_with_others`; `self_consistency`; `tied`: the share of their pairs of items;
    `seconds`: the median active time, with its quartiles; `too_fast`: how many rankings took a quarter of reading time.
    """
    once = labels.where(~labels.repeat)
    agreement = agreement_with_others(list(blocks(once)), range(len(labels.names)))
    fast = too_fast(labels, characters)
    found = {}
    for number, name in enumerate(labels.names):
        own = labels.where(labels.annotator == number)
        first = own.where(~own.repeat)
        found[name] = {
            "rankings": len(first),
            "agreement": agreement[number],
            "self_consistency": self_consistency(own),
            "tied": tied(first),
            "seconds": active_seconds(own),
            "too_fast": int(fast[labels.annotator == number].sum()),
        }
    return dict(sorted(found.items()))


def agreement_with_others(shared: Sequence[Block], people: Iterable[int]) -> list[Statistic]:
    """Of each of those annotators the share of (another one, pair of items), which both put apart, in which the two agree."""
    who, prompt, sums = [np.empty(0, int)], [np.empty(0, int)], [np.empty((0, 2))]
    for block in shared:
        counts = block.counts()
        strict = counts[..., 0] + counts[..., 2]
        same = np.where(block.signs > 0, counts[:, None, :, 2], counts[:, None, :, 0])
        apart = (block.signs != 0) & (block.signs != UNSAID)
        agree = ((same - 1) * apart).sum(2)
        every = ((strict[:, None] - 1) * apart).sum(2)
        who.append(block.annotators.ravel())
        prompt.append(np.repeat(block.prompt, block.annotators.shape[1]))
        sums.append(np.stack([agree, every], -1).reshape(-1, 2).astype(float))
    person, of_prompt, columns = np.concatenate(who), np.concatenate(prompt), np.concatenate(sums)
    found = []
    for number in people:
        rows = person == number
        own = by_prompt(of_prompt[rows], columns[rows])
        found.append(statistic(quotient, own, columns[rows, 1].sum(), (0, 1), ALONE))
    return found


def tied(labels: Labels) -> float:
    """The share of the compared pairs of items that are tied."""
    together, apart, _ = pair_counts(labels)
    return together / (together + apart) if together + apart else 0.0


def pair_counts(labels: Labels) -> tuple[int, int, int]:
    """How many pairs of items are tied, were put apart, and were not compared."""
    together = np.sum([choose2((labels.tiers == tier).sum(1)) for tier in range(MOST)], axis=0)
    tied, unsaid = int(together[~labels.partial].sum()), int(together[labels.partial].sum())
    return tied, int(choose2(labels.items()).sum()) - tied - unsaid, unsaid


def label_distribution(labels: Labels) -> dict[str, int]:
    """How many of the pairs of items were put apart, tied, not compared; how many rankings have no tie, some, only one
    tier, or name only the best and the worst.
    """
    tied, apart, unsaid = pair_counts(labels)
    full = labels.where(~labels.partial)
    items, tiers = full.items(), full.tiers.max(1, initial=NONE) + 1
    return {
        "pairs_apart": apart, "pairs_tied": tied, "pairs_unsaid": unsaid, "strict": int((tiers == items).sum()),
        "with_ties": int(((tiers < items) & (tiers > 1)).sum()), "all_tied": int((tiers == 1).sum()),
        "best_worst": int(labels.partial.sum()),
    }  # fmt: skip
