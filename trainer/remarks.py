"""What whoever trains a reward model should know of the rankings it learns from, each in one sentence."""

from collections.abc import Sequence

from trainer.ranked import Ranked


def remarks(ranked: Sequence[Ranked], loaded: Sequence[Ranked]) -> list[str]:
    """Of the comparisons that are learned from, and of all that were there."""
    found = []
    prompts = {r.prompt for r in ranked}
    if len(prompts) == 1:
        found.append(
            f"All {len(ranked)} training comparisons are of one prompt, so nothing shows that the model holds for others; "
            "rank answers to more prompts."
        )
    orders = [order for r in ranked for order in r.orders]
    people = {order.annotator for order in orders if not order.simulated}
    if len(people) == 1 and not any(order.simulated for order in orders):
        found.append(
            "All rankings are by a single annotator: the model learns that person's taste, and how far people agree, the "
            "ceiling of its accuracy, is not known."
        )
    robots = sum(all(order.simulated for order in r.orders) for r in ranked if r.orders)
    if robots:
        found.append(
            f"{robots} of {len(ranked)} training comparisons are ranked by simulated annotators alone: the model learns "
            "their rule, not what people prefer."
        )
    return found + of_contradictions(ranked) + of_empty_answers(ranked) + of_ties(ranked, loaded)


def of_contradictions(ranked: Sequence[Ranked]) -> list[str]:
    """About pairs on which rankings are of two minds."""
    both = sum(one.win > 0 and one.loss > 0 for r in ranked for one in r.said)
    winners: dict[tuple[str, frozenset[tuple[int, ...]]], set[tuple[int, ...]]] = {}
    for r in ranked:
        for better, worse, _ in r.pairs:
            pair = [tuple(r.examples[i].response) for i in (better, worse)]
            winners.setdefault((r.prompt, frozenset(pair)), set()).add(pair[0])
    across = sum(len(found) > 1 for found in winners.values())
    if not both and not across:
        return []
    return [
        f"The rankings contradict each other on {both + across} pairs of answers: within a comparison the share of votes is "
        "learned, between comparisons each counts."
    ]


def of_empty_answers(ranked: Sequence[Ranked]) -> list[str]:
    """About answers without a word."""
    empty = sum(not text.strip() for r in ranked for text in r.texts)
    total = sum(len(r.texts) for r in ranked)
    if not empty:
        return []
    return [f"{empty} of {total} answers are empty: each is judged by its end token alone."]


def of_ties(ranked: Sequence[Ranked], loaded: Sequence[Ranked]) -> list[str]:
    """About comparisons that nobody decided, if ties are not learned from."""
    tied = sum(not r.pairs and bool(r.ties) for r in loaded)
    if not tied or any(not r.pairs and r.ties for r in ranked):
        return []
    return [f"{tied} of {len(loaded)} comparisons have no winner once ties are taken off, and are not learned from."]


def why_undecided(loaded: Sequence[Ranked]) -> str:
    """What the comparisons say instead of an order, for the error; "" if there are none."""
    tied = sum(not r.pairs and bool(r.ties) for r in loaded)
    bad = sum(r.all_bad == 1 for r in loaded)
    if tied:
        return f"in {tied} all answers are tied, or the annotators are even"
    return f"{bad} are called all bad" if bad else ""
