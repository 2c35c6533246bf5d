"""Prompts are chosen by what the reward model knows least about; held-out ones by chance alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.selection import disagreement
from preferences.store import Store
from tests.trainer.fill import add_policy, add_prompts, annotator, save_adapter
from trainer.budget import sampling_budget
from trainer.ensemble import Ensemble, load_reward
from trainer.models import Base, load_base
from trainer.roles import Roles
from trainer.sample import SampleStage, sample
from trainer.sampler import LocalSampler
from trainer.scoring import RewardModel, response_example
from trainer.selecting import Chooser, Select, sample_selected
from trainer.worker import Worker, work

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="session")
def adapters(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A policy, a single reward model, and an ensemble of two, on the tiny Llama."""
    folder = tmp_path_factory.mktemp("adapters")
    made = {"sft": save_adapter(llama_folder, folder / "sft", scale=0.2)}
    singles = [save_adapter(llama_folder, folder / f"reward{seed}", seed=seed, head=True) for seed in (2, 3)]
    roles = Roles(load_base(str(llama_folder), "none"))
    members = tuple(RewardModel.load(roles, f"member-{i}", one) for i, one in enumerate(singles))
    Ensemble(roles, members, members[0].card).save(folder / "ensemble")
    return {**made, "reward": singles[0], "ensemble": folder / "ensemble"}


@pytest.fixture
def options(store: Store, study: Study, base: Base, llama_folder: Path, adapters: dict[str, Path]) -> dict[str, Any]:
    """Options of a choice; twelve training prompts and six held-out ones wait."""
    add_prompts(store, study, 12)
    add_prompts(store, study, 6, "heldout")
    add_policy(store, study, base, adapters["sft"])
    return {
        "db": store.path, "model": str(llama_folder), "quantize": "none", "max_new_tokens": 8, "temperature": 1.0,
        "select": "disagreement", "reward": adapters["ensemble"], "prompts": 4,
    }  # fmt: skip


def test_the_most_disputed_prompts_are_queued(
    store: Store, base: Base, options: dict[str, Any], llama_folder: Path, adapters: dict[str, Path]
) -> None:
    """Without a random arm: the four training prompts of the pool whose answers the members dispute most."""
    result = sample_selected(Select(**options, random=0.0), store, base)
    assert (result["prompts"], result["comparisons"], result["selected"], result["random"]) == (4, 4, 4, 0)
    asked = {comparison.prompt for comparison in store.comparisons.all()}
    assert {comparison.origin for comparison in store.comparisons.all()} == {"selected"}
    fresh = load_base(str(llama_folder), "none")
    model = load_reward(Roles(fresh), adapters["ensemble"])
    value = {}
    for prompt in store.prompts.all("train"):
        ids = fresh.prompt_ids(prompt.messages)
        answers = store.responses.of_prompt(prompt.id)
        assert len(answers) == 4
        examples = [response_example(fresh, ids, one.text, one.finish_reason == "stop") for one in answers]
        value[prompt.id] = disagreement(np.array(model.each_all(examples, 4096)))
    assert asked == set(sorted(value, key=lambda ident: -value[ident])[:4])
    assert not any(store.responses.of_prompt(prompt.id) for prompt in store.prompts.all("heldout"))


def test_held_out_prompts_come_by_the_random_arm_alone(store: Store, base: Base, options: dict[str, Any]) -> None:
    sample_selected(Select(**{**options, "prompts": 12, "seed": 1}, random=0.5), store, base)
    split = {prompt.id: prompt.split for prompt in store.prompts.all(None)}
    found = Counter((comparison.origin, split[comparison.prompt]) for comparison in store.comparisons.all())
    assert found["selected", "heldout"] == 0 and found["selected", "train"] > 0 and found["random", "heldout"] > 0
    assert sum(found.values()) == 12


def test_the_random_arm_takes_over_where_no_training_prompt_is_left(
    store: Store, base: Base, options: dict[str, Any]
) -> None:
    result = sample_selected(Select(**{**options, "prompts": 18}, random=0.0), store, base)
    assert (result["comparisons"], result["selected"], result["random"]) == (18, 12, 6)


def test_without_a_choice_it_is_the_plain_sampling(
    store: Store, base: Base, options: dict[str, Any], llama_folder: Path
) -> None:
    plain = {name: options[name] for name in ("db", "model", "quantize", "max_new_tokens", "temperature", "prompts")}
    result = sample_selected(Select(**plain), store, base)
    assert result["comparisons"] == 4 and "selected" not in result
    again = sample(SampleStage(**plain), store, load_base(str(llama_folder), "none"))
    assert set(again) == set(result)


def test_the_worker_chooses_too(store: Store, options: dict[str, Any]) -> None:
    annotator(store)
    done = work(Worker(**{**options, "prompts": None}, once=True, waiting=3, pool=2, prompts_at_once=2))
    assert done["sampled"] >= 3
    assert {comparison.origin for comparison in store.comparisons.all()} <= {"selected", "random"}


def test_members_scores_have_the_ensembles_mean(base: Base, adapters: dict[str, Path]) -> None:
    model = load_reward(Roles(base), adapters["ensemble"])
    examples = [response_example(base, [20, 21], text, True) for text in ("a", "Good morning!", "No.")]
    each = np.array(model.each_all(examples, 4096))
    assert each.shape == (2, 3)
    assert each.mean(0) == pytest.approx(model.score_all(examples, 4096), abs=1e-5)


def test_what_cannot_choose(base: Base, options: dict[str, Any], adapters: dict[str, Path]) -> None:
    with pytest.raises(RankloopError, match="is a single reward model, which cannot disagree with itself"):
        Chooser.load(
            Select(**{**options, "reward": adapters["reward"]}),
            Roles(base),
            LocalSampler(Roles(base), sampling_budget(100)),
        )
    for wrong, sentence in (
        ({"reward": None}, "--select disagreement needs --reward"),
        ({"random": 1.5}, "random must be from 0 to 1, not 1.5"),
        ({"pool": 0}, "pool must be at least 1, not 0"),
    ):
        with pytest.raises(RankloopError, match=sentence):
            Select(**{**options, **wrong})
