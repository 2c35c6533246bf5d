"""How policies fare blind against one of them, from the rankings of a study's held-out prompts."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from preferences import duels
from preferences.contests import Answers, Contests, contests_of
from preferences.errors import RankloopError
from preferences.intervals import Array
from preferences.labels import NONE, Asked, Labels
from preferences.records import Policy, Study
from preferences.store import Store


@dataclass(frozen=True, slots=True)
class Early:
    """What the sequential test sees: `labels`; `equal` [C]: which of the comparisons nobody ranks count as ties;
    `done` [prompts]: when each prompt was done, infinite if it is not."""

    labels: Labels
    equal: Array
    done: Array


def blind(store: Store, study: Study, against: str | None = None, simulated: bool = False) -> dict[str, Any]:
    """{"against": name, "policies": {name: what `of_policy` says}}, of all policies that met it on held-out prompts.

    `against`: by default the SFT policy that was compared, else the base, else the oldest one. Raises UnknownName;
    RankloopError if nothing was ranked.
    """
    with store.snapshot():
        labels, comparisons = store.labels.read(study.id, simulated)
        asked = store.labels.asked(study, comparisons)
        answers = store.labels.answers(asked.comparisons)
        policies = {policy.name: policy for policy in store.policies.all()}
    labels = labels.where(asked.heldout[labels.comparison])
    labels = replace(labels, prompt=asked.prompt[labels.comparison])
    everything = contests(labels, answers, asked, asked.equal)
    present = [policies[answers.names[i]] for i in np.unique(everything.models) if i != NONE]
    old = reference(store, present, against)
    early = early_of(labels, asked)
    first = contests(early.labels, answers, asked, early.equal)
    ranked = everything.models[: len(everything.models) - int(asked.equal.sum())]
    number = {name: at for at, name in enumerate(answers.names)}
    found = {}
    for policy in sorted(present, key=lambda policy: policy.created):
        said = of_policy(everything, first, early.done, ranked, number[policy.name], number[old.name])
        if policy.name != old.name and said:
            found[policy.name] = said
    return {"against": old.name, "policies": found}


def contests(labels: Labels, answers: Answers, asked: Asked, equal: Array) -> Contests:
    """Those labels, and a tie of all policies in each of the `equal` comparisons [C], in which they said the same."""
    made, rows = contests_of(labels, answers), np.flatnonzero(equal)
    models = answers.model[rows]
    return Contests(
        np.concatenate([made.models, models]),
        np.concatenate([made.tiers, np.where(models == NONE, NONE, 0)]),
        np.concatenate([made.features, answers.features[rows]]),
        np.concatenate([made.prompt, asked.prompt[rows]]),
        made.names,
        np.concatenate([made.apart, np.full(models.shape, NONE)]),
    )


def reference(store: Store, present: list[Policy], against: str | None) -> Policy:
    """The policy that the others are held against, one of those whose answers stood beside another's."""
    if against:
        policy = store.policies.get(against)
        if policy.id not in {one.id for one in present}:
            raise RankloopError(
                f"No answer of policy {policy.name!r} to a held-out prompt was ranked beside another policy's; queue some "
                "with `trainer evaluate policy --queue`, or name another policy."
            )
        return policy
    if not present:
        raise RankloopError(
            "No held-out prompt has ranked answers of two policies; queue some with `trainer evaluate policy --queue`."
        )
    return min(present, key=lambda policy: (policy.kind != "sft", policy.kind != "base", policy.created))


def early_of(labels: Labels, asked: Asked) -> Early:
    """The first labels of each prompt's first comparison, once there are as many as it wanted.

    A prompt enters the sequential test once and stays as it was then: what comes later must not change the past.
    """
    labels = labels.where(np.argsort(labels.created, kind="stable"))
    first: dict[int, int] = {}  # of each prompt, the comparison that was ranked first
    count = np.zeros(len(asked.comparisons), int)
    done = np.full(asked.prompts, np.inf)
    kept = np.zeros(len(labels), bool)
    for row, comparison in enumerate(labels.comparison.tolist()):
        prompt = int(asked.prompt[comparison])
        if first.setdefault(prompt, comparison) != comparison or count[comparison] == asked.wanted[comparison]:
            continue
        kept[row] = True
        count[comparison] += 1
        if count[comparison] == asked.wanted[comparison]:
            done[prompt] = labels.created[row]
    equal = asked.equal & ~np.isfinite(done[asked.prompt])
    kept &= np.isfinite(done[labels.prompt])
    done[asked.prompt[equal]] = asked.created[equal]
    return Early(labels.where(kept), equal, done)


def of_policy(
    everything: Contests, first: Contests, done: Array, ranked: Array, new: int, old: int
) -> dict[str, Any] | None:
    """A policy against the reference; None if they never met. `ranked` [labels, R]: whose answers people ranked.

    {"win_rate", "at_equal_length": {"win_rate", "effect"}, "labels_needed", "sequential", "prompts", "labels", "pairs"}.
    """
    pairs = duels.duel(everything, new, old)
    if not len(pairs):
        return None
    points = duels.points_of(pairs)
    labels = int(((ranked == new).any(1) & (ranked == old).any(1)).sum())
    early = duels.points_of(duels.duel(first, new, old))
    order = np.argsort(done[early.prompt], kind="stable")
    return {
        "win_rate": duels.win_rate(points.points),
        "at_equal_length": duels.at_equal_length(pairs),
        "labels_needed": duels.labels_needed(points.points, labels),
        "sequential": duels.sequential(early.points[order], labels / len(points.points)),
        "prompts": len(points.points),
        "labels": labels,
        "pairs": len(pairs),
    }
