"""Which checkpoint of a run to take: from the frontier of score against KL, not the last one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preferences.intervals import Array


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`kl`: nats an answer from the start; `scores` [prompts], the same ones for all; `worse`: people prefer the start."""

    name: str
    kl: float
    scores: Array
    worse: bool = False

    @property
    def score(self) -> float:
        """The mean over prompts."""
        return float(self.scores.mean())


@dataclass(frozen=True, slots=True)
class Choice:
    """The index of the checkpoint to take, None to stay with the start, and why."""

    index: int | None
    reason: str


def frontier(points: Sequence[Checkpoint]) -> list[bool]:
    """True where no other checkpoint scores at least as high at no more KL."""
    return [
        not any(
            other.score >= one.score and other.kl <= one.kl and (other.score, other.kl) != (one.score, one.kl)
            for other in points
        )
        for one in points
    ]


def choice(start: Checkpoint, points: Sequence[Checkpoint]) -> Choice:
    """The one on the frontier that is nearest to the start among those within one standard error of the best.

    The standard error is that of the difference to the best over prompts (the one-standard-error rule of Breiman et al. 1984:
    of what cannot be told apart, the simplest). Checkpoints to which people prefer the start are left out.
    """
    left = [i for i, one in enumerate(points) if not one.worse]
    if not left:
        return Choice(None, f"People prefer {start.name} to every checkpoint that they saw; stay with it.")
    on = frontier([points[i] for i in left])
    candidates = [i for i, is_on in zip(left, on, strict=True) if is_on]
    best = max(candidates, key=lambda i: points[i].score)
    near = [i for i in candidates if within_error(points[best].scores - points[i].scores)]
    chosen = min(near, key=lambda i: points[i].kl)
    said = points[chosen]
    if within_error(said.scores - start.scores):
        return Choice(
            None, f"The best checkpoint, {said.name}, scores {said.score:.2f}, which is within one standard error of "
            f"{start.name}'s {start.score:.2f}: nothing is gained that could be told from noise."
        )  # fmt: skip
    return Choice(chosen, reason(points, chosen, best, left))


def within_error(gaps: Array) -> bool:
    """Whether the mean of paired differences [prompts] is at most its standard error."""
    if len(gaps) < 2:
        return float(gaps.mean()) <= 0
    return float(gaps.mean()) <= float(gaps.std(ddof=1) / np.sqrt(len(gaps)))


def reason(points: Sequence[Checkpoint], chosen: int, best: int, left: Sequence[int]) -> str:
    """Why that one, in a sentence or two."""
    one, top, last = points[chosen], points[best], points[-1]
    if chosen == best:
        said = f"It has the highest held-out score of the frontier, {one.score:.2f}, at a KL of {one.kl:.2f} nats an answer"
    else:
        said = (
            f"Its held-out score, {one.score:.2f}, is within one standard error of the best ({top.name}, {top.score:.2f}), "
            f"at a KL of {one.kl:.2f} instead of {top.kl:.2f} nats an answer"
        )
    if one is last:
        return f"{said}; it happens to be the last."
    further = "more" if last.kl > one.kl else "no more"
    ending = f"; the last one scores {last.score:.2f} at {further} KL ({last.kl:.2f})."
    dropped = [points[i].name for i in range(len(points)) if i not in left]
    return said + ending + (f" Left out because people prefer the start: {', '.join(dropped)}." if dropped else "")
