"""Comparisons that share answers stand together, and no answer runs twice in one element."""

from itertools import combinations

from trainer.batches import Example
from trainer.elements import distinct, elements, flat_rows
from trainer.ranked import Ranked


def ranked(prompt: str, answers: list[int]) -> Ranked:
    """A comparison of answers of one token each, which wins in this order."""
    pairs = [(i, j, 1.0) for i, j in combinations(range(len(answers)), 2)]
    return Ranked(prompt, [Example([1, 2], [number]) for number in answers], [str(n) for n in answers], pairs, [])


def answers_of(comparison: Ranked) -> list[int]:
    return [example.response[0] for example in comparison.examples]


def test_all_pairs_of_a_prompt_run_each_answer_once() -> None:
    """Like UKP: every two of eight answers were compared."""
    made = [ranked("p", [a, b]) for a, b in combinations(range(10, 18), 2)]
    (element,) = elements(made, 1000)
    assert [example.response[0] for example in element.examples] == list(range(10, 18))
    assert len(element.comparisons) == 28
    for comparison, rows in zip(element.comparisons, element.rows, strict=True):
        assert [element.examples[i].response[0] for i in rows] == answers_of(comparison)


def test_a_budget_divides_them_and_every_comparison_stays_once() -> None:
    made = [ranked("p", [a, b]) for a, b in combinations(range(10, 20), 2)]
    found = elements(made, 2 + 5)
    assert all(len(element.examples) <= 5 for element in found)
    seen = sorted(tuple(answers_of(r)) for element in found for r in element.comparisons)
    assert seen == sorted(tuple(answers_of(r)) for r in made)
    assert len(found[0].comparisons) == 10  # every two of five
    assert sum(len(element.examples) for element in found) < 2 * len(made) / 2


def test_what_shares_no_answer_or_prompt_stays_apart() -> None:
    made = [ranked("p", [1, 2, 3]), ranked("p", [4, 5]), ranked("q", [1, 2]), ranked("p", [3, 6])]
    found = elements(made, 1000)
    assert [[answers_of(r) for r in element.comparisons] for element in found] == [
        [[1, 2, 3], [3, 6]],
        [[4, 5]],
        [[1, 2]],
    ]


def test_one_that_is_too_long_stands_alone() -> None:
    found = elements([ranked("p", [1, 2, 3]), ranked("p", [3, 4])], 1)
    assert [len(element.comparisons) for element in found] == [1, 1]


def test_equal_texts_of_one_comparison_are_one_answer() -> None:
    examples, rows = distinct([ranked("p", [7, 8, 7])])
    assert (len(examples), rows) == (2, [[0, 1, 0]])


def test_rows_of_several_elements() -> None:
    found = elements([ranked("p", [1, 2]), ranked("q", [3, 4]), ranked("q", [4, 5])], 1000)
    assert flat_rows(found) == [[0, 1], [2, 3], [3, 4]]
