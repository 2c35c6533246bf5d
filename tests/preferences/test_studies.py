"""Studies: prompts and sampling policies joined to the queue."""

import pytest

from preferences.errors import NameTaken, UnknownName
from preferences.records import Policy, Response, Study
from preferences.store import Store
from tests.preferences.make import add_annotator, add_comparison, add_policy, add_prompt


def test_the_oldest_active_study_is_the_default_one(store: Store, study: Study) -> None:
    assert store.studies.default() == study
    store.studies.set_status(study, "paused")
    assert store.studies.default().status == "paused"
    other = store.studies.create("other", k=3)
    assert store.studies.default() == other
    assert store.studies.all()[1] == other


def test_names(store: Store, study: Study) -> None:
    assert store.studies.get("main") == store.studies.get(study.id) == study
    with pytest.raises(NameTaken, match="main"):
        store.studies.create("main")
    with pytest.raises(UnknownName, match=r"'nope' \(there are: main\)"):
        store.studies.get("nope")


def test_guidelines_keep_their_versions(store: Store, study: Study) -> None:
    assert store.studies.guideline(study) is None
    made = [store.studies.set_guideline(study, text) for text in ("Be fair.", "Be fair.", "Be kind.")]
    assert [guideline.version for guideline in made] == [1, 1, 2]
    assert store.studies.guideline(study) == made[-1]


def test_sampling_policies_change_and_earlier_ones_stay_on_record(store: Store, study: Study) -> None:
    sft, ppo = add_policy(store, "sft"), add_policy(store, "ppo")
    assert store.studies.sampling_policies(study) == []
    for chosen in ([sft], [ppo, sft], [ppo]):
        store.studies.set_sampling_policies(study, chosen)
        assert store.studies.sampling_policies(study) == chosen
    assert store.studies.number("SELECT count(*) FROM study_policies") == 4
    assert [event.kind for event in store.events.newest()][:-1] == ["sampling policies"] * 3


def test_a_policy_is_stored_once_and_its_name_is_its_own(store: Store) -> None:
    sft = add_policy(store, "sft")
    assert store.policies.add(Policy("sft", "another name", "ppo")) == sft
    with pytest.raises(NameTaken, match="sft"):
        store.policies.add(Policy("other", "sft", "ppo"))
    assert store.policies.all() == [sft]
    with pytest.raises(UnknownName, match=r"'nope' \(there are: sft\)"):
        store.policies.get("nope")


def test_prompts_wait_until_the_current_policies_have_answered_them(store: Store, study: Study) -> None:
    """When a better policy takes over, every prompt waits for its answers."""
    sft, ppo = add_policy(store, "sft"), add_policy(store, "ppo")
    prompts = [add_prompt(store, text) for text in ("Why is the sky blue?", "Name a river.", "Tell a joke.")]
    assert store.studies.add_prompts(study, prompts) == 3
    assert store.studies.add_prompts(study, prompts) == 0
    store.studies.set_sampling_policies(study, [sft])
    assert store.studies.prompts_without_comparison(study, 10) == prompts
    add_comparison(store, study, "Why is the sky blue?")
    assert store.studies.prompts_without_comparison(study, 10) == prompts[1:]
    assert store.studies.prompts_without_comparison(study, 1) == prompts[1:2]
    assert store.studies.prompts_without_comparison(study, 10, "heldout") == []
    store.studies.set_sampling_policies(study, [ppo])
    assert store.studies.prompts_without_comparison(study, 10) == prompts


def test_responses_are_stored_once_and_equal_texts_share_a_row(store: Store) -> None:
    prompt, sft, ppo = add_prompt(store, "hi"), add_policy(store, "sft"), add_policy(store, "ppo")
    made = [
        Response.make(
            prompt.id, policy.id, text, 1, index, temperature=0.7, finish_reason="length", tokens=3, created=5.0
        )
        for policy in (sft, ppo)
        for index, text in enumerate(("yes", "no\u2028\0 🙂"))
    ]
    assert store.responses.add(made) == 4
    assert store.responses.add(made) == 0
    assert store.responses.number("SELECT count(*) FROM texts") == 2
    assert store.responses.get_many(r.id for r in made) == {r.id: r for r in made}
    assert store.responses.of_policy("ppo") == store.responses.of_prompt(prompt.id, "ppo") == made[2:]
    assert len(store.responses.of_prompt(prompt.id)) == 4


def test_the_least_compared_prompts_come_first(store: Store, study: Study) -> None:
    policy = add_policy(store, "sft")
    prompts = [add_prompt(store, text) for text in ("Why is the sky blue?", "Name a river.", "Tell a joke.")]
    store.studies.add_prompts(study, prompts)
    store.studies.set_sampling_policies(study, [policy])
    add_comparison(store, study, "Why is the sky blue?")
    assert store.studies.least_compared_prompts(study, 10) == [*prompts[1:], prompts[0]]
    assert store.studies.least_compared_prompts(study, 1) == prompts[1:2]


def test_consent_is_given_to_a_version_once(store: Store, study: Study) -> None:
    assert store.studies.consent(study) is None
    first = store.studies.set_consent(study, "Your rankings are published.")
    assert store.studies.set_consent(study, "Your rankings are published.") == first
    ann = add_annotator(store)
    assert store.annotators.consented(ann, first) is None
    at = store.annotators.give_consent(ann, first)
    assert store.annotators.give_consent(ann, first) == store.annotators.consented(ann, first) == at
    second = store.studies.set_consent(study, "Your rankings are published under a free licence.")
    assert (second.version, store.studies.consent(study)) == (2, second)
    assert store.annotators.consented(ann, second) is None
    store.studies.set_consent(study, "")  # nobody is asked any more
    assert store.studies.consent(study) is None
    assert store.studies.set_consent(study, "Once more.").version == 4
    assert [event.kind for event in store.events.newest()].count("consent") == 1
    store.studies.set_consent(study, "")
    assert store.studies.consent(study) is None


def test_a_study_may_be_limited_to_some_annotators(store: Store, study: Study) -> None:
    ann, bob = add_annotator(store, "ann"), add_annotator(store, "bob")
    other = store.studies.create("other")
    assert store.studies.open_to(ann) == store.studies.open_to(bob) == [study, other]
    store.studies.set_annotators(study, [bob])
    assert (store.studies.open_to(ann), store.studies.open_to(bob)) == ([other], [study, other])
    (event,) = [event for event in store.events.newest(9) if event.kind == "study annotators"]
    assert event.detail == {"annotators": [bob.id]}
    store.studies.set_annotators(study, [bob])
    store.studies.set_annotators(study, [])
    assert store.studies.open_to(ann) == [study, other]
    assert len([event for event in store.events.newest(9) if event.kind == "study annotators"]) == 2
