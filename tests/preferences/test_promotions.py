"""Promotions: one line in the log each, and nothing that was said before is lost."""

from pathlib import Path

import pytest

from preferences.records import Comparison, Policy, Response, Study
from preferences.store import Store
from preferences.tables.promotions import NotPromotable
from tests.preferences.make import Clock, add_annotator, add_prompt, rank

BASE = "tiny"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def policy_at(
    store: Store, name: str, folder: Path, kind: str = "ppo", base: str = BASE, parent: str | None = None
) -> Policy:
    """A policy with an adapter of that name."""
    adapter = folder / name
    adapter.mkdir()
    for file in ("rankloop.json", "adapter_model.safetensors"):
        (adapter / file).touch()
    return store.policies.add(Policy(name, name, kind, base, "none", str(adapter), parent))  # type: ignore[arg-type]


def compared(store: Store, study: Study, question: str, policy: Policy, origin: str = "sampled") -> Comparison:
    """A comparison of two answers of the policy."""
    prompt = add_prompt(store, question)
    answers = [Response.make(prompt.id, policy.id, text, 1, index) for index, text in enumerate("ab")]
    store.responses.add(answers)
    made = store.comparisons.add(study, prompt.id, answers, origin=origin)
    assert made is not None
    return made


def test_each_promotion_is_one_line_in_the_log_and_can_be_taken_back(
    store: Store, study: Study, tmp_path: Path
) -> None:
    sft, first, second = (policy_at(store, name, tmp_path) for name in ("sft", "ppo-1", "ppo-2"))
    store.studies.set_sampling_policies(study, [sft])
    store.promotions.promote(study, first, "rita", "it wins 60%")
    store.promotions.promote(study, second, "rita")
    assert store.studies.sampling_policies(study) == [second]
    assert store.promotions.roll_back(study, "adam", "it rambles") == [first]
    assert store.promotions.roll_back(study, "adam") == [sft]
    assert store.studies.sampling_policies(study) == [sft]
    with pytest.raises(NotPromotable, match="before"):
        store.promotions.roll_back(study, "adam")
    told = [(event.kind, event.actor, event.detail) for event in store.promotions.history(study)]
    assert told == [
        ("sampling policies", "", {"policies": ["sft"]}),
        ("policy promoted", "rita", {"policies": ["ppo-1"], "reason": "it wins 60%"}),
        ("policy promoted", "rita", {"policies": ["ppo-2"]}),
        ("policy rolled back", "adam", {"policies": ["ppo-1"], "reason": "it rambles"}),
        ("policy rolled back", "adam", {"policies": ["sft"]}),
    ]
    store.promotions.promote(study, first, "rita")
    assert store.promotions.standing(study) == [["sft"], ["ppo-1"]]


def test_a_policy_that_cannot_answer_is_refused(store: Store, study: Study, tmp_path: Path) -> None:
    people = store.policies.add(Policy("people", "people", "human"))
    lost = store.policies.add(Policy("lost", "lost", "ppo", BASE, "none", str(tmp_path / "lost")))
    good, other = policy_at(store, "good", tmp_path), policy_at(store, "other", tmp_path, base="large")
    store.promotions.promote(study, good, "rita")
    store.workers.publish("w", {"model": BASE, "quantization": "none"})
    for policy, sentence in (
        (people, "texts from elsewhere"),
        (lost, "is not at"),
        (good, "already"),
        (other, "--model large"),
    ):
        with pytest.raises(NotPromotable, match=sentence):
            store.promotions.promote(study, policy, "rita")
    assert store.studies.sampling_policies(study) == [good] and len(store.promotions.history(study)) == 1


def test_nothing_goes_back_to_an_adapter_that_is_gone(store: Store, study: Study, tmp_path: Path) -> None:
    first, second = policy_at(store, "first", tmp_path), policy_at(store, "second", tmp_path)
    store.promotions.promote(study, first, "rita")
    store.promotions.promote(study, second, "rita")
    (tmp_path / "first" / "adapter_model.safetensors").unlink()
    with pytest.raises(NotPromotable, match="is not at"):
        store.promotions.roll_back(study, "rita")
    assert store.studies.sampling_policies(study) == [second]


def test_what_waits_of_the_old_policy_stays_and_is_asked_last(store: Store, study: Study, tmp_path: Path) -> None:
    old, new = policy_at(store, "old", tmp_path), policy_at(store, "new", tmp_path)
    store.promotions.promote(study, old, "rita")
    ann = add_annotator(store)
    said = compared(store, study, "ranked", old)
    rank(store, study, ann)
    waiting = compared(store, study, "waiting", old)
    imported = compared(store, study, "imported", old, origin="imported")
    assert store.promotions.fresh(study, 9) == 2
    store.promotions.promote(study, new, "rita")
    assert store.promotions.fresh(study, 9) == 1, "what was imported waits as before"
    fresh = compared(store, study, "fresh", new)
    order = [candidate.comparison for candidate in store.queue.candidates(study, ann)]
    assert order == [imported.id, fresh.id, waiting.id]
    assert [ranking.comparison for ranking in store.rankings.current()] == [said.id]
    assert (store.promotions.fresh(study, 9), store.promotions.fresh(study, 1), store.queue.waiting(study)) == (2, 1, 3)
    store.promotions.roll_back(study, "rita")
    order = [candidate.comparison for candidate in store.queue.candidates(study, ann)]
    assert order == [waiting.id, imported.id, fresh.id]
