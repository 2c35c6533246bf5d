"""Token budgets where the user gives none."""

from pathlib import Path

import pytest

from trainer import room
from trainer.budget import PASSES, SAMPLED
from trainer.fakes import without_data
from trainer.fitting import Rehearsal
from trainer.models import Base
from trainer.ppo import Ppo
from trainer.reward import Reward
from trainer.room import Budgets, ppo_budgets, reward_budget
from trainer.sample import SampleStage, fitted
from trainer.ways import Ways
from trainer.worker import Worker

OPTIONS = {"out": Path("run"), "functions": ("file.py:function",), "max_new_tokens": 32}
MIB = 2**20


def with_room(monkeypatch: pytest.MonkeyPatch, bytes_: int | None) -> None:
    """A GPU of so many bytes, or none."""
    monkeypatch.setattr(room, "room", lambda _: bytes_)


def test_on_a_cpu_they_are_fixed(base: Base) -> None:
    assert room.room(base.device) is None
    assert ppo_budgets(Ppo(**OPTIONS), base) == Budgets(PASSES, SAMPLED)


def test_those_that_are_given_are_taken(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    with_room(monkeypatch, 2**31)
    assert ppo_budgets(Ppo(**OPTIONS, token_budget=77, sample_budget=99), base) == Budgets(77, 99)


@pytest.mark.planner
def test_sampling_and_reward_training_take_what_fits_unless_it_is_given(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Reward(out=Path("run"))
    assert (fitted(SampleStage(), base, 4).at_once, reward_budget(config, base, 4)) == (SAMPLED, PASSES)
    found = []
    for extra in (8, 60):
        with_room(monkeypatch, (1024 + extra) * MIB)
        found.append((fitted(Worker(max_new_tokens=32), base, 4).at_once, reward_budget(config, base, 4)))
    (sampled, passes), (more_sampled, more_passes) = found
    assert 0 < sampled < more_sampled
    assert 0 < passes < more_passes
    assert fitted(Worker(token_budget=77), base, 4).at_once == 77


@pytest.mark.planner
def test_on_a_gpu_they_are_what_fits(
    base: Base, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for extra in (20, 60):
        with_room(monkeypatch, 1024 * MIB + extra * MIB)  # beside the planner's reserve of 1 GiB
        found.append(ppo_budgets(Ppo(**OPTIONS, episodes=512), base))
    small, large = found
    assert 0 < small.passes < large.passes
    assert 0 < small.sampled < large.sampled
    assert "Planned for 1.1 GiB" in capsys.readouterr().err


@pytest.mark.planner
def test_where_not_even_one_row_fits_each_is_tried_alone_and_what_would_fit_is_said(
    base: Base, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_room(monkeypatch, 1024)
    assert ppo_budgets(Ppo(**OPTIONS), base) == Budgets(1, 1)
    assert "No option of ppo changes that: take --quantize nf4" in capsys.readouterr().err
    config = Ppo(**OPTIONS, samples=4)
    setup = room.setup_of(base, config.max_new_tokens, config.samples, config.episodes, room.beginning(base))
    with without_data(gpu=True):
        plain, light = (
            Rehearsal(setup, "ppo", Ways(checkpointing)).at("update", 1).total for checkpointing in (False, True)
        )
    with_room(monkeypatch, (plain + light) // 2)
    assert ppo_budgets(config, base).passes == 1
    assert "It would with --checkpointing.\n" in capsys.readouterr().err


def test_all_prompts_begin_with_the_first_tokens_of_the_chat_template(base: Base) -> None:
    length = room.beginning(base)
    prompts = [base.prompt_ids([{"role": "user", "content": text}]) for text in ("Tea?", "Bread, please", "x")]
    assert length > 0
    assert len({tuple(prompt[:length]) for prompt in prompts}) == 1
    assert len({prompt[length] for prompt in prompts}) > 1
