"""Comparisons of one prompt put together where they share answers, so that each distinct answer runs once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from trainer.batches import Example
from trainer.ranked import Ranked


@dataclass(frozen=True, slots=True)
class Element:
    """Comparisons of one prompt. `examples`: their distinct answers; `rows[c][i]`: which one is answer i of comparison c."""

    comparisons: list[Ranked]
    examples: list[Example]
    rows: list[list[int]]


def distinct(ranked: Sequence[Ranked]) -> tuple[list[Example], list[list[int]]]:
    """Every distinct (prompt, answer) once, in the order in which they come up, and which ones each comparison has."""
    known: dict[tuple[str, tuple[int, ...]], int] = {}
    examples: list[Example] = []
    rows = []
    for one in ranked:
        row = []
        for example in one.examples:
            key = (one.prompt, tuple(example.response))
            if key not in known:
                known[key] = len(examples)
                examples.append(example)
            row.append(known[key])
        rows.append(row)
    return examples, rows


def elements(ranked: Sequence[Ranked], most_tokens: int) -> list[Element]:
    """Every comparison in one element, in as few runs of an answer as a greedy choice finds.

    An element grows by the comparison of its prompt that adds the fewest answers, as long as they share one and prompt and
    answers stay within `most_tokens`.
    """
    by_prompt: dict[str, list[Ranked]] = {}
    for one in ranked:
        by_prompt.setdefault(one.prompt, []).append(one)
    return [element for group in by_prompt.values() for element in grown(group, most_tokens)]


def grown(ranked: Sequence[Ranked], most_tokens: int) -> Iterator[Element]:
    """The elements of one prompt."""
    examples, rows = distinct(ranked)
    waiting = [(number, set(row)) for number, row in enumerate(rows)]
    while waiting:
        number, answers = waiting.pop(0)
        members = [number]
        tokens = len(ranked[number].examples[0].prompt) + sum(len(examples[i].response) for i in answers)
        while True:
            best = min(
                (
                    (sum(len(examples[i].response) for i in row - answers), at)
                    for at, (_, row) in enumerate(waiting)
                    if row & answers
                ),
                default=None,
            )
            if best is None or (best[0] and tokens + best[0] > most_tokens):
                break
            tokens += best[0]
            number, row = waiting.pop(best[1])
            members.append(number)
            answers |= row
        chosen = [ranked[number] for number in members]
        yield Element(chosen, *distinct(chosen))


def flat_rows(part: Sequence[Element]) -> list[list[int]]:
    """The rows of each comparison of some elements whose examples stand one after another."""
    starts = accumulate((len(element.examples) for element in part), initial=0)
    return [[start + i for i in row] for start, element in zip(starts, part, strict=False) for row in element.rows]
