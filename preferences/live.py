"""Is the reward model still right, day by day; how much of what it learned from is stale; how policies' texts drift."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from preferences import intervals
from preferences.intervals import Statistic, undefined
from preferences.oddities import refusals, repetition
from preferences.rankings import votes_of
from preferences.records import Ranking, Response, Study
from preferences.store import Store
from preferences.style import BOLD, HEADING, LIST_ITEM

DAY = 86_400
STRENGTHS = {0: "not said", 1: "negligibly", 2: "slightly", 3: "clearly", 4: "much"}
NEWEST = 400  # answers of a policy whose form is looked at

Row = tuple[str, str, float, float]  # prompt, day, strength, whether the score agrees


def live_accuracy(store: Store, study: Study, reward: str, simulated: bool = False) -> dict[str, Any]:
    """{"all", "days": {day: statistic}, "strengths": {word: statistic}, "unscored"}: how often the score agrees with people.

    Over the pairs that rankings of held-out prompts put apart, with intervals over prompts. Held-out prompts come by the
    random arm alone, so that they stand for all. `unscored`: pairs with an answer that the model has not scored.
    """
    with store.snapshot():
        rankings = store.rankings.current(study.id, "heldout", simulated, ("label",))
        prompts = {one.id: one.prompt for one in store.comparisons.get_many(list({r.comparison for r in rankings}))}
        shown = {item for ranking in rankings for tier in ranking.tiers for item in tier}
        scores = store.scores.of(reward, shown)
    rows, unscored = [], 0
    for ranking in rankings:
        day = str(np.datetime64(int(ranking.created // DAY), "D"))
        for better, worse, vote in votes_of(ranking):
            if vote == 0.5:
                continue
            if better not in scores or worse not in scores:
                unscored += 1
                continue
            agrees = 0.5 + 0.5 * float(np.sign(scores[better] - scores[worse]))
            rows.append((prompts[ranking.comparison], day, strength(ranking, better, worse), agrees))
    words = [STRENGTHS[min(4, int(np.ceil(row[2])))] for row in rows]
    return {
        "all": share(rows),
        "days": {day: share(row for row in rows if row[1] == day) for day in sorted({row[1] for row in rows})},
        "strengths": {
            word: share(row for row, said in zip(rows, words, strict=True) if said == word)
            for word in STRENGTHS.values()
            if word in words
        },
        "unscored": unscored,
    }


def strength(ranking: Ranking, better: str, worse: str) -> float:
    """How much better, in steps, the annotator found it; 0 if they did not say."""
    place = {item: tier for tier, items in enumerate(ranking.tiers) for item in items}
    between = ranking.strengths[place[better] : place[worse]]
    return float(sum(between)) if between and all(between) else 0.0


def share(rows: Iterable[Row]) -> Statistic:
    """The mean of the last column, with its interval over prompts."""
    hits: dict[str, list[float]] = {}
    for prompt, _, _, agrees in rows:
        hits.setdefault(prompt, []).append(agrees)
    if not hits:
        return undefined("no pair of scored answers to a held-out prompt was put apart")
    return intervals.ratio([sum(own) for own in hits.values()], [len(own) for own in hits.values()]).as_dict()


def staleness(store: Store, study: Study, simulated: bool = False) -> dict[str, Any]:
    """{"current": share, "answers", "policies": {name: share}, "newest": seconds}: whose answers the rankings of training
    prompts are of; `current`: of the policies that answer the study's prompts now; `newest`: when the last was ranked.

    A reward model that has only seen other policies' answers may know little of this one's (Llama 2, 2307.09288, 3.2.3).
    """
    with store.snapshot():
        rankings = store.rankings.current(study.id, "train", simulated)
        now = {policy.name for policy in store.studies.sampling_policies(study)}
        policy_of = store.comparisons.policies_of({ranking.comparison for ranking in rankings})
    counts: dict[str, int] = {}
    for ranking in rankings:
        for name in policy_of[ranking.comparison]:
            counts[name] = counts.get(name, 0) + 1
    total = sum(counts.values())
    return {
        "current": sum(counts.get(name, 0) for name in now) / total if total else None,
        "answers": total,
        "policies": {name: count / total for name, count in sorted(counts.items(), key=lambda item: -item[1])},
        "newest": max((ranking.created for ranking in rankings), default=None),
    }


def drift(store: Store, study: Study) -> list[dict[str, Any]]:
    """Of each policy, the oldest first, what its newest answers to the study's prompts look like: {"policy", "answers", ...}
    and what `form_of` says."""
    return [
        {"policy": policy.name, "answers": len(answers), **form_of(answers)}
        for policy in store.policies.all()
        if (answers := store.responses.newest(study, policy, NEWEST))
    ]


def form_of(answers: Sequence[Response]) -> dict[str, float | None]:
    """{"characters", "low", "high", "lists", "headings", "bold", "repetition", "refusals", "cut"}: means over answers.

    `low`, `high`: the interval of the characters, over prompts; `lists`, `headings`, `bold`, `refusals`, `cut`: shares.
    """
    sizes: dict[str, list[int]] = {}
    for one in answers:
        sizes.setdefault(one.prompt, []).append(len(one.text))
    size = intervals.ratio([sum(own) for own in sizes.values()], [len(own) for own in sizes.values()]).as_dict()
    texts = [one.text for one in answers]
    marks: dict[str, Callable[[str], object]] = {
        "lists": LIST_ITEM.search, "headings": HEADING.search, "bold": BOLD.search, "refusals": refusals,
    }  # fmt: skip
    return {
        "characters": size["value"], "low": size["low"], "high": size["high"],
        **{name: float(np.mean([bool(mark(text)) for text in texts])) for name, mark in marks.items()},
        "repetition": float(np.mean([repetition(text) for text in texts])),
        "cut": float(np.mean([one.finish_reason == "length" for one in answers])),
    }  # fmt: skip
