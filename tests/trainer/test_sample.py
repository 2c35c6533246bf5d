"""Answers for the annotators: how many, by whom, drawn how, and drawn again how often."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preferences.errors import RankloopError
from preferences.records import Response, Study
from preferences.store import Store
from tests.tiny import save_tiny_llama
from tests.trainer.fill import add_policy, add_prompts, save_adapter
from trainer.budget import sampling_budget
from trainer.models import Base, load_base
from trainer.policies import load_policy, plain_policy
from trainer.roles import Roles, WrongAdapter
from trainer.sample import SampleStage, queue, respond, sample
from trainer.sampler import LocalSampler


@pytest.fixture
def config(store: Store) -> dict[str, Any]:
    """Options of short answers."""
    return {"db": store.path, "temperature": 1.0, "max_new_tokens": 8}


def answers(store: Store) -> list[Response]:
    """All stored responses."""
    return [response for prompt in store.prompts.all() for response in store.responses.of_prompt(prompt.id)]


def test_each_prompt_gets_k_answers_with_their_history(
    store: Store, study: Study, config: dict[str, Any], base: Base
) -> None:
    prompts = add_prompts(store, study, 5) + add_prompts(store, study, 2, "heldout")
    options = {**config, "seed": 7, "temperature": 0.9, "top_p": 0.95}
    result = sample(SampleStage(**options), store, base)
    assert result == {"prompts": 7, "responses": 28, "comparisons": 7, "policies": [f"{Path(base.id).name}-none"]}
    for prompt in prompts:
        mine = store.responses.of_prompt(prompt.id)
        assert [response.sample_index for response in mine] == [0, 1, 2, 3]
        assert len({response.text for response in mine}) == 4
        for response in mine:
            assert (response.seed, response.temperature, response.top_p) == (7, 0.9, 0.95)
            assert (response.max_new_tokens, response.template_hash) == (8, base.template_hash)
            assert 1 <= response.tokens <= 8
    waiting = {comparison.prompt: comparison for comparison in store.comparisons.all(study.id)}
    assert set(waiting) == {prompt.id for prompt in prompts}
    assert all(
        set(waiting[prompt.id].items) == {response.id for response in store.responses.of_prompt(prompt.id)}
        for prompt in prompts
    )


def test_an_answer_ended_itself_or_was_cut(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    add_prompts(store, study, 24)
    sample(SampleStage(**{**config, "max_new_tokens": 48}), store, base)
    reasons = {reason: [r for r in answers(store) if r.finish_reason == reason] for reason in ("stop", "length")}
    assert {response.tokens for response in reasons["length"]} == {48}
    assert min(response.tokens for response in reasons["stop"]) < 48


def test_the_same_seed_gives_the_same_answers_in_a_fresh_database(
    tmp_path: Path, llama_folder: Path, config: dict[str, Any]
) -> None:
    texts = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        store = Store(tmp_path / f"{name}.db")
        add_prompts(store, store.studies.default(), 6)
        sample(SampleStage(**{**config, "db": store.path, "seed": seed}), store, load_base(str(llama_folder), "none"))
        texts.append([response.text for response in answers(store)])
    assert len(texts[0]) == 24 and texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_two_policies_share_the_answers(
    store: Store, study: Study, config: dict[str, Any], base: Base, llama_folder: Path, tmp_path: Path
) -> None:
    adapter = save_adapter(llama_folder, tmp_path / "adapter", scale=0.2)
    prompts = add_prompts(store, study, 3)
    sample(SampleStage(**config, prompts=1), store, base)
    plain = store.studies.sampling_policies(study)[0]
    tuned = add_policy(store, study, base, adapter)
    store.studies.set_sampling_policies(study, [plain, tuned])
    result = sample(SampleStage(**config), store, base)
    assert (result["prompts"], result["policies"]) == (2, [plain.name, "sft"])
    for prompt in prompts[1:]:
        by = {policy.id: store.responses.of_prompt(prompt.id, policy.id) for policy in (plain, tuned)}
        assert [len(mine) for mine in by.values()] == [2, 2]
        assert {r.text for r in by[plain.id]}.isdisjoint(r.text for r in by[tuned.id])
    mixed = store.comparisons.all(study.id)[-1]
    policies = {response.policy for response in store.responses.get_many(mixed.same).values()}
    assert policies == {plain.id, tuned.id}


def test_a_repeated_answer_is_drawn_again_three_times_at_most(
    store: Store, study: Study, config: dict[str, Any], base: Base
) -> None:
    """Without temperature all answers are equal: the first is kept at once, the others after three more draws."""
    add_prompts(store, study, 2)
    result = sample(SampleStage(**{**config, "temperature": 1e-4}), store, base)
    assert (result["responses"], result["comparisons"]) == (8, 0)
    for prompt in store.prompts.all():
        mine = store.responses.of_prompt(prompt.id)
        assert len({response.text for response in mine}) == 1
        assert [response.sample_index for response in mine] == [0, 10, 11, 12]


def test_drawing_again_makes_answers_differ(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    add_prompts(store, study, 12)
    sample(SampleStage(**{**config, "temperature": 0.5, "max_new_tokens": 1}), store, base)
    late = [response for response in answers(store) if response.sample_index >= 4]
    assert late
    mended = [r for r in late if sum(r.text == other.text for other in store.responses.of_prompt(r.prompt)) == 1]
    assert mended


def test_more_answers_to_a_prompt_are_new_ones(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """Sample numbers go on after the highest that was ever stored, also where some were drawn again."""
    prompts = add_prompts(store, study, 3)
    options = SampleStage(**{**config, "temperature": 0.5, "max_new_tokens": 1})
    sample(options, store, base)
    known = {response.id for response in answers(store)}
    assert max(response.sample_index for response in answers(store)) > 3
    policies = store.studies.sampling_policies(study)
    sampler = LocalSampler(Roles(base), sampling_budget(options.at_once))
    again = respond(options, store, sampler, policies, prompts, 4, lambda _: None)
    for prompt, mine in zip(prompts, again, strict=True):
        before = [r.sample_index for r in store.responses.of_prompt(prompt.id) if r.id in known]
        assert min(response.sample_index for response in mine) > max(before)
    assert queue(store, study, prompts, again) <= 3


def test_progress_counts_each_answer_once(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    prompts, rows = add_prompts(store, study, 3), []
    sample(SampleStage(**config, prompts=1), store, base)
    options = SampleStage(**{**config, "temperature": 1e-4})
    respond(
        options,
        store,
        LocalSampler(Roles(base), sampling_budget(options.at_once)),
        store.studies.sampling_policies(study),
        prompts,
        4,
        rows.append,
    )
    assert sum(rows) == 12


def test_nothing_to_do_is_no_error(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    expected = {"prompts": 0, "responses": 0, "comparisons": 0}
    assert {**sample(SampleStage(**config), store, base), "policies": []} == {**expected, "policies": []}
    add_prompts(store, study, 2)
    sample(SampleStage(**config), store, base)
    stored = len(answers(store))
    assert {**sample(SampleStage(**config), store, base), "policies": []} == {**expected, "policies": []}
    assert len(answers(store)) == stored


def test_fewer_prompts_and_another_k(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    add_prompts(store, study, 5)
    result = sample(SampleStage(**config, prompts=2, k=3), store, base)
    assert (result["prompts"], result["responses"]) == (2, 6)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("temperature", 0.0, "temperature must be above 0"),
        ("top_p", 1.5, r"top_p in \(0, 1\]"),
        ("max_new_tokens", 0, "max_new_tokens at least 1"),
        ("k", 1, "k must be from 2 to 9, not 1"),
        ("k", 10, "k must be from 2 to 9, not 10"),
        ("prompts", 0, "prompts must be at least 1, not 0"),
    ],
)
def test_options_that_make_no_sense(config: dict[str, Any], option: str, value: float, sentence: str) -> None:
    with pytest.raises(RankloopError, match=sentence):
        SampleStage(**{**config, option: value})


def test_a_policy_of_another_base_is_refused(
    store: Store, study: Study, config: dict[str, Any], base: Base, t5_base: Base, tmp_path: Path
) -> None:
    add_prompts(store, study, 2)
    add_policy(store, study, t5_base, tmp_path / "nowhere")
    with pytest.raises(WrongAdapter, match=f"give --model {t5_base.id} --quantize none"):
        sample(SampleStage(**config), store, base)
    assert answers(store) == []


def test_a_policy_of_the_same_weights_under_another_path_answers(
    store: Store, study: Study, config: dict[str, Any], base: Base, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """As on a worker's host, where the base lies elsewhere; of other weights there it does not."""
    add_prompts(store, study, 2)
    policy = add_policy(store, study, base, adapters["sft"])
    shutil.copytree(base.id, tmp_path / "elsewhere")
    there = load_base(str(tmp_path / "elsewhere"), "none")
    sample(SampleStage(**config), store, there)
    assert {response.policy for response in answers(store)} == {"sft"}
    with pytest.raises(WrongAdapter, match=f"give --model {base.id}"):
        load_policy(Roles(load_base(str(save_tiny_llama(tmp_path / "elsewhere", seed=1)), "none")), policy)


def test_the_plain_base_is_one_policy_on_every_host(base: Base) -> None:
    """One has looked at the weights, and one could not."""
    assert plain_policy(base) == plain_policy(replace(base, weights=""))
