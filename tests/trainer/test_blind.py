"""Answers of several policies and of a person in one queue, none favoured, and equal ones as ties."""

from collections import Counter
from pathlib import Path

import pytest

from preferences.blind import blind
from preferences.errors import RankloopError
from preferences.records import EQUAL, Policy, Response, Study
from preferences.store import Store
from tests.trainer.fill import add_prompts, demonstrations
from trainer.blind import BLIND, dealt, human_answers, queue_blind


def made(policy: str, count: int, prompt: str = "p") -> list[Response]:
    return [Response.make(prompt, policy, f"{policy} {i}", 0, i) for i in range(count)]


def test_every_policy_has_as_many_places() -> None:
    """Three policies in two places meet each other equally often; in four the one place over goes round."""
    pool = [made("a", 4), made("b", 4), made("c", 4)]
    for k, each in ((2, 4), (3, 6), (4, 8)):
        taken = [dealt(pool, k, turn) for turn in range(6)]
        assert {len(of_prompt) for of_prompt in taken} == {k}
        assert Counter(r.policy for of_prompt in taken for r in of_prompt) == dict.fromkeys("abc", each)
    meetings = Counter(frozenset(r.policy for r in dealt(pool, 2, turn)) for turn in range(6))
    assert set(meetings.values()) == {2} and len(meetings) == 3


def test_a_person_writes_one_answer_and_not_to_every_prompt() -> None:
    assert [r.policy for r in dealt([made("a", 4), made("b", 4), made("human", 1)], 4, 0)] == ["a", "b", "human", "a"]
    assert [r.policy for r in dealt([made("a", 4), made("b", 4), []], 4, 0)] == ["a", "b", "a", "b"]
    assert [r.policy for r in dealt([made("a", 1), []], 4, 0)] == ["a"]


def test_equal_answers_are_kept_as_ties_and_a_single_policy_is_not_asked_about(store: Store, study: Study) -> None:
    first, second, third = add_prompts(store, study, 3, "heldout")
    for name in ("a", "b"):
        store.policies.add(Policy(name, name, "sft"))
    answers = [
        [[Response.make(prompt.id, policy, text, 0, 0)] for prompt, text in zip((first, second), texts, strict=True)]
        for policy, texts in (("a", ("same", "one")), ("b", ("same", "other")))
    ]
    answers[0].append([Response.make(third.id, "a", "alone", 0, i) for i in range(2)])
    answers[1].append([])
    store.responses.add(r for of_policy in answers for own in of_policy for r in own)
    assert queue_blind(store, study, [first, second, third], answers, 2) == {"queued": 1, "equal": 1}
    assert {c.prompt: c.origin for c in store.comparisons.all()} == {first.id: EQUAL, second.id: BLIND}
    assert store.queue.waiting(study) == 1
    (only,) = blind(store, study)["policies"].values()
    assert only["win_rate"]["value"] == 0.5 and only["labels"] == 0 and only["prompts"] == 1


def test_demonstrations_that_answer_nothing(store: Store, study: Study, tmp_path: Path) -> None:
    prompts = add_prompts(store, study, 2, "heldout")
    talk = [{"role": "user", "content": "Something else?"}, {"role": "assistant", "content": "Yes."}]
    with pytest.raises(RankloopError, match=r"No demonstration in .* answers one of these 2 held-out prompts"):
        human_answers(store, demonstrations(tmp_path / "d.jsonl", [talk]), prompts)
    assert store.policies.all() == []
