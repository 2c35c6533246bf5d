"""Comparisons that share answers stand together, and no answer runs twice in one element."""

import gzip
import json
from itertools import combinations
from pathlib import Path

import pytest

from preferences.exchange.importing import import_rankings
from preferences.store import Store
from trainer.batches import Example
from trainer.elements import distinct, elements, flat_rows
from trainer.embedded import EMBEDDED, EmbeddedModelMissing
from trainer.models import load_base
from trainer.ranked import Ranked
from trainer.reward import Reward
from trainer.reward_material import learnable
from trainer.reward_trainer import RewardTrainer
from trainer.roles import Roles
from trainer.runs import Run


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


def test_a_divided_prompt_runs_its_answers_as_often_as_every_two_of_its_parts_do() -> None:
    """20 answers in rooms of 10: any two of four fives stand together once, which is 6 times 10 answers."""
    made = [ranked("p", [a, b]) for a, b in combinations(range(10, 30), 2)]
    for order in (made, made[::-1]):
        assert sum(len(element.examples) for element in elements(order, 2 + 10)) == 60


def test_an_answer_without_a_token_goes_along() -> None:
    """Empty and cut off."""
    empty = Ranked("p", [Example([1, 2], [3]), Example([1, 2], [])], ["3", ""], [(0, 1, 1.0)], [])
    (element,) = elements([ranked("p", [3, 4]), empty], 4)
    assert [len(example.response) for example in element.examples] == [1, 1, 0]


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


@pytest.mark.slow
def test_a_human_argument_runs_once_an_epoch(store: Store, real_data: Path, tmp_path: Path) -> None:
    """UKP: each of 851 arguments stands in 22 of 9,454 pairs; docs/reward.md has the numbers. Needs the embedded model."""
    try:
        base = load_base(EMBEDDED, "none")
    except EmbeddedModelMissing as error:
        pytest.skip(str(error))
    lines = gzip.decompress((real_data / "rankings" / "ukpconvarg_strict.jsonl.gz").read_bytes()).decode().splitlines()
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps({**json.loads(line), "split": "train"}) + "\n" for line in lines))
    study = store.studies.create("main")
    import_rankings(store, study, file)
    config = Reward(db=store.path, out=tmp_path / "reward")
    ranked, _ = learnable(config, store, study, base)
    assert (len(ranked), len(distinct(ranked)[0])) == (9454, 851)
    roles = Roles(base)

    def answers(budget: int) -> int:
        own = Reward(db=store.path, out=tmp_path / "reward", token_budget=budget)
        trainer = RewardTrainer(own, roles, ranked, Run(tmp_path), role=f"with {budget}")
        epoch = [element for update in trainer.updates for element in update]
        assert sum(len(element.comparisons) for element in epoch) == 9454
        return sum(len(element.examples) for element in epoch)

    assert answers(8192) == 851
    assert answers(config.passes) == 1234  # of some debates, half the budget holds a part
