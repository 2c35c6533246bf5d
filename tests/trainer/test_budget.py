"""When memory runs out: smaller parts, every row once, and the last error if nothing can be divided."""

import pytest
import torch

from trainer.batches import Example
from trainer.budget import LIGHTER, Budget, is_out_of_memory

EXAMPLES = [Example([1] * 4, [2] * (i % 3 + 1)) for i in range(12)]


def test_every_row_once_within_the_budget() -> None:
    budget, seen = Budget(30, share=False), []
    budget.each(EXAMPLES, 2, seen.append, gradients=True)
    assert sorted(i for rows in seen for i in rows) == list(range(12))
    assert all(len(rows) * max(len(EXAMPLES[i]) for i in rows) <= 15 for rows in seen)
    assert (budget.tokens, budget.halvings) == (30, 0)


def test_a_pass_without_gradients_has_room_for_more() -> None:
    tokens = {}
    for gradients in (True, False):
        seen: list[list[int]] = []
        Budget(10, share=False).each(EXAMPLES, 1, seen.append, gradients=gradients)
        tokens[gradients] = max(len(rows) * max(len(EXAMPLES[i]) for i in rows) for rows in seen)
    assert tokens[True] <= 10 < 2 * 10 < tokens[False] <= LIGHTER * 10


@pytest.mark.parametrize("share", [True, False])
def test_out_of_memory_halves_the_budget_and_repeats(share: bool, capsys: pytest.CaptureFixture[str]) -> None:
    budget, done, attempts = Budget(200, share), [], []

    def work(rows: list[int]) -> None:
        attempts.append(rows)
        if sum(len(EXAMPLES[i]) for i in rows) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        done.extend(rows)

    budget.each(EXAMPLES, 1, work, gradients=True)
    assert sorted(done) == list(range(12))
    assert budget.halvings >= 1 and budget.tokens == 200 // 2**budget.halvings
    assert len(attempts) > budget.halvings
    assert "Out of memory" in capsys.readouterr().err


def test_what_does_not_fit_alone_is_the_devices_own_error() -> None:
    def work(_: list[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        Budget(100, share=False).each(EXAMPLES, 1, work, gradients=True)


def test_other_errors_are_not_hidden() -> None:
    calls = []

    def work(rows: list[int]) -> None:
        calls.append(rows)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        Budget(100, share=False).each(EXAMPLES, 1, work, gradients=True)
    assert len(calls) == 1


def test_which_errors_say_that_memory_ran_out() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**52, dtype=torch.uint8)
    assert is_out_of_memory(error.value), str(error.value)
    assert not is_out_of_memory(ValueError("x"))
