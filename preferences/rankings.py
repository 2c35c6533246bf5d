"""Rankings as arithmetic: tiers to ranks and pairs. Pure: lists in, lists out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from preferences.errors import BadTiers
from preferences.records import Ranking, Tiers

ALL_BAD = "all_bad"  # the flag of a ranking whose annotator finds no response acceptable; other flags are by response


def check_tiers(tiers: Tiers, items: Sequence[str]) -> None:
    """Raises BadTiers unless the tiers place every item exactly once and none is empty."""
    placed = Counter(item for tier in tiers for item in tier)
    missing = [item for item in items if item not in placed]
    unknown = [item for item in placed if item not in items]
    twice = [item for item, count in placed.items() if count > 1]
    if missing:
        raise BadTiers(f"{len(missing)} of {len(items)} responses are not placed; give each a rank.")
    if unknown:
        raise BadTiers(f"{unknown[0]!r} is not a response of this comparison; load the page again.")
    if twice:
        raise BadTiers(f"Response {twice[0]!r} is placed more than once; give it one rank.")
    if not all(tiers):
        raise BadTiers("A rank without a response cannot be stored; leave empty ranks out.")


def check_placed(tiers: Tiers, items: Sequence[str]) -> None:
    """For a draft: raises BadTiers unless what is placed are items, each at most once; the rest may be missing."""
    placed = [item for tier in tiers for item in tier]
    check_tiers([tier for tier in tiers if tier], [item for item in items if item in placed])


def ranks(tiers: Tiers) -> dict[str, int]:
    """Competition ranks: [[b], [a, c], [d]] -> b 1, a 2, c 2, d 4."""
    result, rank = {}, 1
    for tier in tiers:
        result.update(dict.fromkeys(tier, rank))
        rank += len(tier)
    return result


def pairs(tiers: Tiers) -> list[tuple[str, str]]:
    """(better, worse) for every two items of different tiers."""
    return [(a, b) for upper, lower in combinations(tiers, 2) for a in upper for b in lower]


def ties(tiers: Tiers) -> list[tuple[str, str]]:
    """Every two items of the same tier."""
    return [pair for tier in tiers for pair in combinations(tier, 2)]


Votes = list[tuple[str, str, float]]  # (a, b, 1 if a is preferred or 0.5 if neither is)


def votes(tiers: Tiers, with_ties: bool = True) -> Votes:
    """What tiers say of each two items; of those in one tier nothing, unless `with_ties`."""
    even = [(a, b, 0.5) for a, b in ties(tiers)] if with_ties else []
    return [(a, b, 1.0) for a, b in pairs(tiers)] + even


def votes_of(ranking: Ranking) -> Votes:
    """What a ranking says: nothing if all are bad, and of best and worst nothing about those between."""
    return [] if ALL_BAD in ranking.flags else votes(ranking.tiers, with_ties=ranking.mode != "best-worst")


def vote_shares(rankings: Iterable[Votes]) -> dict[tuple[str, str], float]:
    """Soft labels of one comparison: (a, b), a < b -> the share of rankings that prefer a; a tie counts one half.

    Of each two items, only those rankings count that say something of them.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for said in rankings:
        for a, b, vote in said:
            key, value = ordered(a, b, vote)
            found.setdefault(key, []).append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def ordered(a: str, b: str, share: float) -> tuple[tuple[str, str], float]:
    """The pair with the smaller id first, and the share that prefers that one; `share`: of those who prefer a."""
    return ((a, b), share) if a < b else ((b, a), 1 - share)


def top_splits(rankings: Sequence[Tiers]) -> bool:
    """Whether no response stands in the first tier of more than half of one comparison's rankings."""
    tops = Counter(item for tiers in rankings for item in tiers[0])
    return not any(2 * count > len(rankings) for count in tops.values())


def agreement(ranking: Ranking, gold: Tiers) -> tuple[float, int]:
    """(how many of the pairs that `gold` puts apart the ranking orders likewise, a tie counting one half; out of how many).

    Out of those that it compares: whoever names the best and the worst says nothing of the others. "All bad" ties all.
    """
    said = {
        pair: vote
        for a, b, share in votes(ranking.tiers, with_ties=ranking.mode != "best-worst")
        for pair, vote in (((a, b), share), ((b, a), 1 - share))
    }
    compared = [said[pair] for pair in pairs(gold) if pair in said]
    return sum(compared), len(compared)
