"""The gates of a study's rounds: what each asks for, and the sentence that it stops with."""

from typing import Any

import pytest

from preferences.gates import accuracy_gate, gates_of, rankings_gate, win_gate
from preferences.plan import Plan
from preferences.records import Policy, Study
from preferences.rounds import (
    GateClosed,
    blind_win_rate,
    check_accuracy,
    check_promotes,
    check_rankings,
    check_wins,
    choose_policies,
)
from preferences.store import Store
from tests.preferences.make import Clock, add_annotator, add_comparison, add_duel, rank


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("new", "first", "sentence"),
    [
        (200, False, None),
        (199, False, "Study 's' has 199 rankings since its last reward model, and its gate asks for 200 (min_rankings); "
                     "rank 1 more."),
        (0, True, "Study 's' has 0 rankings, and its gate asks for 200 (min_rankings); rank 200 more."),
    ],
)  # fmt: skip
def test_new_rankings(new: int, first: bool, sentence: str | None) -> None:
    assert rankings_gate(new, 200, "s", first) == sentence


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        ({"value": 0.6, "low": 0.5, "high": 0.7}, 0.6, None),
        ({"value": 0.599, "low": 0.5, "high": 0.7}, 0.6, "orders 59.9% of the held-out pairs"),
        (None, 0.6, "accuracy is unknown"),
        ({"undefined": "no pair"}, 0.6, "accuracy is unknown"),
        (None, 0.0, None),
    ],
)
def test_reward_accuracy(found: dict[str, Any] | None, wanted: float, words: str | None) -> None:
    said = accuracy_gate(found, wanted, "s")
    assert said is None if words is None else said and words in said and "asks for 60% before PPO" in said


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"value": 0.6, "low": 0.51, "high": 0.69}, None),
        ({"value": 0.6, "low": 0.5, "high": 0.7}, "p wins 60.0% [50.0%, 70.0%] of its blind comparisons with sft"),
        (None, "Nobody has ranked answers of p and sft blind"),
    ],
)
def test_the_whole_interval_of_the_win_rate_lies_above(found: dict[str, Any] | None, words: str | None) -> None:
    said = win_gate(found, 0.5, "s", "p", "sft")
    assert said is None if words is None else said and words in said and "(min_win_rate)" in said
    assert win_gate(found, 0.0, "s", "p", "sft") is None


def test_gates_in_words() -> None:
    assert gates_of(Plan()) == []
    assert gates_of(Plan(min_rankings=200, min_accuracy=0.6, min_win_rate=0.5)) == [
        "200 new rankings before a reward model", "60% held-out accuracy before PPO",
        "a blind win rate above 50%, with its whole interval, before a promotion",
    ]  # fmt: skip


def gated(store: Store, study: Study, **gates: float) -> Study:
    return store.studies.edit(study, plan=gates)


def test_only_rankings_since_the_last_finished_reward_model_are_new(store: Store, study: Study, clock: Clock) -> None:
    study, ann = gated(store, study, min_rankings=2), add_annotator(store)
    for question in ("One?", "Two?", "Three?"):
        add_comparison(store, study, question)
    rank(store, study, ann)
    with pytest.raises(GateClosed, match=r"has 1 rankings, .* rank 1 more"):
        check_rankings(store, study)
    rank(store, study, ann)
    check_rankings(store, study)
    begun = {"stage": "reward", "started": clock.now, "config": {}}
    store.runs.note("/runs/failed", {**begun, "state": "failed"}, study.id)
    store.runs.note("/runs/elsewhere", {**begun, "state": "finished"}, store.studies.create("another").id)
    check_rankings(store, study)
    store.runs.note("/runs/reward", {**begun, "state": "finished"}, study.id)
    clock.now += 1
    rank(store, study, ann)
    with pytest.raises(GateClosed, match=r"has 1 rankings since its last reward model"):
        check_rankings(store, study)


def test_simulated_rankings_count_where_they_are_learned_from(store: Store, study: Study) -> None:
    study = gated(store, study, min_rankings=1)
    add_comparison(store, study)
    rank(store, study, add_annotator(store, "robot", simulated=True))
    check_rankings(store, study, simulated=True)
    with pytest.raises(GateClosed):
        check_rankings(store, study)


def test_accuracy_and_answering_at_once(store: Store, study: Study) -> None:
    check_accuracy(study, None)
    check_promotes(study)
    study = gated(store, study, min_accuracy=0.6, min_win_rate=0.5)
    check_accuracy(study, {"value": 0.7, "low": 0.6, "high": 0.8})
    with pytest.raises(GateClosed, match="unknown"):
        check_accuracy(study, None)
    with pytest.raises(GateClosed, match="--no-sample-next"):
        check_promotes(study)


def test_a_policy_must_have_won_against_the_sft_policy_it_comes_from(store: Store, study: Study) -> None:
    sft = store.policies.add(Policy("sft", "sft", "sft"))
    first = store.policies.add(Policy("ppo", "ppo", "ppo", parent="sft"))
    second = store.policies.add(Policy("ppo-2", "ppo-2", "ppo", parent="ppo"))
    assert store.policies.anchor(second) == store.policies.anchor(sft) == sft
    study = gated(store, study, min_win_rate=0.5)
    with pytest.raises(GateClosed, match="Nobody has ranked answers of ppo-2 and sft"):
        check_wins(store, study, second)
    add_duel(store, study, [1, 0] * 6, ("ppo", "sft"), about="First")
    add_duel(store, study, [1, 1, 1, 0.5] * 3, ("ppo-2", "sft"), about="Second")
    with pytest.raises(GateClosed, match=r"ppo wins 50.0% \["):
        check_wins(store, study, first)
    check_wins(store, study, second)
    check_wins(store, study, sft)
    found = blind_win_rate(store, study, second, sft)
    assert found and found["value"] == pytest.approx(0.875)
    choose_policies(store, study, [sft])
    with pytest.raises(GateClosed):
        choose_policies(store, study, [sft, first])
    choose_policies(store, study, [second])
    assert store.studies.sampling_policies(study) == [second]


def test_without_an_sft_policy_a_line_is_held_against_its_first(store: Store) -> None:
    base = store.policies.add(Policy("base", "base", "base"))
    store.policies.add(Policy("ppo", "ppo", "ppo", parent="base"))
    last = store.policies.add(Policy("ppo-2", "ppo-2", "ppo", parent="ppo"))
    assert store.policies.anchor(last) == base
