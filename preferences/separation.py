"""Whether choices have finite worths of greatest likelihood, and if not, why. Pure.

Without ties they have them if and only if no part of the models is never beaten by the rest (Ford 1957; Hunter 2004,
Assumption 1). With ties a tie parameter may run off too: A always beats B, and both tie with C. What decides is whether
a direction exists along which no choice becomes less likely and some become more so (Albert & Anderson 1984).
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from preferences.choices import Choices, Shape, design
from preferences.intervals import Array

MOST_ROWS = 50_000
SHOWN = 4


def why_undefined(groups: Sequence[Choices], shape: Shape, names: Sequence[str]) -> str | None:
    """Why there are no finite worths, in words; None if there are. Features are not looked at."""
    if shape.models < 2 or not any(len(group) for group in groups):
        return "fewer than two models were compared with each other"
    groups = [group.merged() for group in groups]
    wins, ties = beats(groups, shape.models)
    compared, part = connected_components(wins + ties, directed=False)
    if compared > 1:
        return (
            f"the models fall into {compared} groups that were never compared with each other: {grouped(part, names)}"
        )
    if connected_components(wins, connection="strong")[0] == 1:
        single = any((group.chosen.sum(1) == 1).any() for group in groups)
        return None if single else "in every choice several were chosen together, so that ties have no bounds"
    graph = wins + ties + ties.T
    parts, part = connected_components(graph, connection="strong")
    if parts > 1:
        return above(graph, part, names)
    if separable(groups, shape):
        return "ties and wins can be told apart without error, so that the worths have no bounds"
    return None


def beats(groups: Sequence[Choices], models: int) -> tuple[csr_array, csr_array]:
    """[models, models] where a row's model was chosen over the column's, and where the two were chosen together."""
    over, together = [], []
    for group in groups:
        n = group.models.shape[1]
        for i in range(n):
            for j in range(n):
                both = group.models[:, [i, j]]
                over.append(both[group.chosen[:, i] & ~group.chosen[:, j]])
                together.append(both[group.chosen[:, i] & group.chosen[:, j] & (i != j)])
    return _graph(over, models), _graph(together, models)


def _graph(edges: list[Array], models: int) -> csr_array:
    rows = np.concatenate(edges)
    return csr_array(coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(models, models)))


def above(graph: csr_array, part: Array, names: Sequence[str]) -> str:
    """Names a part that was never beaten by the rest and never tied with it, or never beat it."""
    rows, columns = graph.nonzero()
    across = part[rows] != part[columns]
    beaten = set(part[columns[across]])
    best = next(number for number in range(int(part.max()) + 1) if number not in beaten)
    top = [name for name, number in zip(names, part, strict=True) if number == best]
    return f"{listed(top)} never lost to any of the others and never tied with one, so that the worths have no bounds"


def listed(names: Sequence[str]) -> str:
    """Some names and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def grouped(part: Array, names: Sequence[str]) -> str:
    """The names by part."""
    parts = [[name for name, of in zip(names, part, strict=True) if of == number] for number in np.unique(part)]
    return "; ".join(listed(group) for group in parts[:SHOWN]) + ("; ..." if len(parts) > SHOWN else "")


def separable(groups: Sequence[Choices], shape: Shape) -> bool:
    """Whether a direction exists along which no choice becomes less likely, and some become more so."""
    rows = []
    for group in groups:
        counts, index, picked = design(group, shape)
        gained = counts[np.arange(len(group)), picked][:, None] - counts
        wide = np.zeros((*gained.shape[:2], shape.length))
        np.add.at(
            wide, (np.arange(len(group))[:, None, None], np.arange(gained.shape[1])[:, None], index[:, None]), gained
        )
        rows.append(wide.reshape(-1, shape.length))
    found = np.unique(np.concatenate(rows), axis=0)
    if len(found) > MOST_ROWS:
        return False  # Newton's method notices, if worths run off after all
    level = np.zeros((1, shape.length))
    level[0, : shape.models] = 1
    best = linprog(-found.sum(0), A_ub=-found, b_ub=np.zeros(len(found)), A_eq=level, b_eq=[0], bounds=(-1, 1))
    return bool(best.fun < -1e-7)
