"""Rankings as contests between models: whose responses met, and which came out on top. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from preferences.choices import Choices
from preferences.intervals import Array
from preferences.labels import NONE, Labels


@dataclass(frozen=True, slots=True)
class Answers:
    """The responses of C comparisons, R at most.

    `model`, `item` [C, R]: whose the response is, and the number of the item that was shown for it;
    -1 where there is none. `features` [C, R, F]: of its text. `names`: what the models are called.
    """

    model: Array
    item: Array
    features: Array
    names: list[str]


@dataclass(frozen=True, slots=True)
class Contests:
    """N rankings of R responses at most: `models`, `tiers` [N, R], -1 for none; `features` [N, R, F]; `prompt` [N].

    `apart` [N, R]: for responses of one tier that were not compared (between the best and the worst), numbers that differ
    unless they were shown as one item; -1 for all others, which are tied with whatever has their tier.
    """

    models: Array
    tiers: Array
    features: Array
    prompt: Array
    names: list[str]
    apart: Array


def contests_of(labels: Labels, answers: Answers) -> Contests:
    """Every ranking, with a response for each model: equal texts shown as one item share its tier, so they are tied.

    `answers` has a row for each number in `labels.comparison`. Rankings of one model alone are left out.
    """
    models, item = answers.model[labels.comparison], answers.item[labels.comparison]
    tiers = np.where(item == NONE, NONE, np.take_along_axis(labels.tiers, np.maximum(item, 0), 1))
    highest = models.max(1, initial=NONE)
    several = ((models != highest[:, None]) & (models != NONE)).any(1)
    features = answers.features[labels.comparison[several]]
    apart = uncompared(tiers[several], item[several], labels.partial[several])
    return Contests(models[several], tiers[several], features, labels.prompt[several], answers.names, apart)


def uncompared(tiers: Array, item: Array, partial: Array) -> Array:
    """[N, R] the item of each response whose tier holds items that were not compared; -1 for the other responses."""
    found = np.full(tiers.shape, NONE)
    tiers, item = tiers[partial], item[partial]
    alike = (tiers[:, :, None] == tiers[:, None, :]) & (item[:, :, None] != item[:, None, :])
    found[partial] = np.where(alike.any(2) & (tiers != NONE), item, NONE)
    return found


def item_models(labels: Labels, answers: Answers) -> Array:
    """[N, 9] whose each shown item is; of a text that several models said, the first's."""
    models = np.full((len(answers.item), labels.tiers.shape[1] + 1), NONE)  # the last column stands for no response
    for at in reversed(range(answers.item.shape[1])):
        models[np.arange(len(models)), answers.item[:, at]] = answers.model[:, at]
    return np.asarray(models[labels.comparison, :-1])


def pairs_of(contests: Contests) -> Choices:
    """A choice for every two responses of different models that were compared: the better one, or both for a tie."""
    parts = list(_pairs(contests))
    if not parts:
        return no_choices(2, contests.features.shape[2])
    models, tiers, features, prompt = (np.concatenate(column) for column in zip(*parts, strict=True))
    chosen = tiers == tiers.min(1, keepdims=True)
    return Choices(models, chosen, np.ones(len(models)), prompt, features)


def _pairs(contests: Contests) -> Iterator[tuple[Array, Array, Array, Array]]:
    for i in range(contests.models.shape[1]):
        for j in range(i + 1, contests.models.shape[1]):
            models, tiers, apart = (of[:, [i, j]] for of in (contests.models, contests.tiers, contests.apart))
            unsaid = (tiers[:, 0] == tiers[:, 1]) & (apart[:, 0] != apart[:, 1])
            rows = (models != NONE).all(1) & (models[:, 0] != models[:, 1]) & ~unsaid
            yield (
                models[rows],
                tiers[rows],
                contests.features[rows][:, [i, j]],
                contests.prompt[rows],
            )


def stages_of(contests: Contests) -> list[Choices]:
    """Each ranking as choices one after the other: its best tier among all, the next among the rest, ...; by how many.

    Responses that were not compared with each other are no choice: of best and worst there is the choice of the best. That
    each of the others was put over the worst is no sound choice either, since it is seen only of pairs that have the worst
    in them; worths estimated from it would be too far apart (Azari Soufiani et al. 2013, "Generalized method-of-moments").
    """
    parts: dict[int, list[tuple[Array, Array, Array]]] = {}
    for tier in range(int(contests.tiers.max(initial=NONE)) + 1):
        left = contests.tiers >= tier
        for n in range(2, contests.tiers.shape[1] + 1):
            here = contests.tiers == tier
            rows = (left.sum(1) == n) & here.any(1) & ~(here & (contests.apart != NONE)).any(1)
            if rows.any():
                first = np.argsort(~left[rows], axis=1, kind="stable")[:, :n]
                models = np.take_along_axis(contests.models[rows], first, 1)
                chosen = np.take_along_axis(contests.tiers[rows], first, 1) == tier
                parts.setdefault(n, []).append((models, chosen, contests.prompt[rows]))
    made = []
    for n, of_size in sorted(parts.items()):
        models, chosen, prompt = (np.concatenate(column) for column in zip(*of_size, strict=True))
        made.append(Choices(models, chosen, np.ones(len(models)), prompt, np.zeros((len(models), n, 0))))
    return made


def no_choices(alternatives: int, features: int) -> Choices:
    """None at all."""
    none = np.zeros((0, alternatives))
    return Choices(
        none.astype(int), none.astype(bool), np.zeros(0), np.zeros(0, int), np.zeros((0, alternatives, features))
    )
