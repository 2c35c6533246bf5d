"""Comparisons of one prompt put together where they share answers, so that each distinct answer runs once."""

from collections import Counter
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

    An element begins with a comparison of its prompt and grows by the answers that complete most comparisons a token, as long
    as these share one with it and prompt and answers stay within `most_tokens`.
    """
    by_prompt: dict[str, list[Ranked]] = {}
    for one in ranked:
        by_prompt.setdefault(one.prompt, []).append(one)
    return [element for group in by_prompt.values() for element in grown(group, most_tokens)]


def grown(ranked: Sequence[Ranked], most_tokens: int) -> Iterator[Element]:
    """The elements of one prompt."""
    examples, rows = distinct(ranked)
    room = most_tokens - len(ranked[0].examples[0].prompt)

    def tokens(answers: frozenset[int]) -> int:
        return sum(len(examples[i].response) for i in answers)

    waiting = {number: frozenset(row) for number, row in enumerate(rows)}
    while waiting:
        answers = next(iter(waiting.values()))
        while True:
            missing = Counter(row - answers for row in waiting.values() if row & answers)
            worth = {
                new: count / max(1, tokens(new))
                for new, count in missing.items()
                if new and tokens(answers | new) <= room
            }
            if not worth:
                break
            best = max(worth, key=worth.__getitem__)
            answers |= best
        members = [number for number, row in waiting.items() if row <= answers]
        for number in members:
            del waiting[number]
        chosen = [ranked[number] for number in members]
        yield Element(chosen, *distinct(chosen))


def flat_rows(part: Sequence[Element]) -> list[list[int]]:
    """The rows of each comparison of some elements whose examples stand one after another."""
    starts = accumulate((len(element.examples) for element in part), initial=0)
    return [[start + i for i in row] for start, element in zip(starts, part, strict=False) for row in element.rows]
