"""Blind evaluation out of a database: what counts, equal texts, what the sequential test sees and when."""

import pytest

from preferences.blind import blind
from preferences.errors import RankloopError, UnknownName
from preferences.plan import Plan
from preferences.records import EQUAL, Policy, Response, Study
from preferences.store import Store
from tests.preferences.make import Clock, add_annotator, add_duel, add_prompt, rank


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Store:
    return Store(tmp_path_factory.mktemp("blind") / "s.db", clock)


@pytest.fixture
def study(store: Store) -> Study:
    """Three people rank a held-out comparison; three policies."""
    made = store.studies.create("main", plan=Plan(labels_heldout=3, repeats=0.0).as_dict())
    for name, kind in (("base", "base"), ("sft", "sft"), ("ppo", "ppo"), ("human", "human")):
        store.policies.add(Policy(name, name, kind, created=store.clock()))  # type: ignore[arg-type]
    return made


def test_what_people_said_of_the_policies(store: Store, study: Study) -> None:
    add_duel(store, study, [1, 1, 0, 0.5, 1])
    add_duel(store, study, [0, 0], ("human", "ppo"), about="Human")
    found = blind(store, study)
    assert found["against"] == "sft" and list(found["policies"]) == ["ppo"]
    ppo = found["policies"]["ppo"]
    assert ppo["win_rate"]["value"] == pytest.approx(0.7)
    assert (ppo["prompts"], ppo["labels"], ppo["pairs"]) == (5, 15, 15)
    assert ppo["sequential"]["n"] == 5 and ppo["sequential"]["value"] == pytest.approx(0.7)
    turned = blind(store, study, "ppo")["policies"]
    assert turned["sft"]["win_rate"]["value"] == pytest.approx(0.3)
    assert turned["human"]["win_rate"]["value"] == 0
    with pytest.raises(UnknownName):
        blind(store, study, "nobody")
    with pytest.raises(RankloopError, match="No answer of policy 'base'"):
        blind(store, study, "base")


def test_training_prompts_and_simulated_annotators_do_not_count(store: Store, study: Study) -> None:
    with pytest.raises(RankloopError, match="No held-out prompt has ranked answers of two policies"):
        blind(store, study)
    prompt = add_prompt(store, "A training prompt?")
    responses = [Response.make(prompt.id, name, f"{name} trained", 7, 0) for name in ("ppo", "sft")]
    store.responses.add(responses)
    comparison = store.comparisons.add(study, prompt.id, responses)
    assert comparison is not None
    store.rankings.add_imported(add_annotator(store), comparison, [[item] for item in comparison.items])
    with pytest.raises(RankloopError, match="No held-out prompt"):
        blind(store, study)
    (held,) = add_duel(store, study, [1], judges=0)
    robot = add_annotator(store, "robot", simulated=True)
    store.rankings.add_imported(robot, held, [[item] for item in held.items])
    with pytest.raises(RankloopError, match="No held-out prompt"):
        blind(store, study)
    assert blind(store, study, simulated=True)["policies"]["ppo"]["labels"] == 1


def add_equal(store: Store, study: Study, question: str) -> None:
    prompt = add_prompt(store, question, heldout=1.0)
    responses = [Response.make(prompt.id, name, "The same.", 7, 0) for name in ("ppo", "sft")]
    store.responses.add(responses)
    made = store.comparisons.add(study, prompt.id, responses, origin=EQUAL)
    assert made is not None and made.items == [responses[0].id]


def test_equal_answers_are_ties_that_nobody_is_asked_about(store: Store, study: Study) -> None:
    add_duel(store, study, [1, 1])
    ann = add_annotator(store)
    waiting = store.queue.waiting(study)
    for i in range(2):
        add_equal(store, study, f"Equal {i}?")
    store.studies.edit(study, plan={"labels_heldout": 4})  # which counts anew how many labels everything wants
    assert store.queue.waiting(store.studies.get("main")) == waiting + 2
    asked = {candidate.comparison for candidate in store.queue.candidates(study, ann)}
    assert not any(comparison.origin == EQUAL for comparison in store.comparisons.get_many(sorted(asked)))
    ppo = blind(store, study)["policies"]["ppo"]
    assert ppo["win_rate"]["value"] == pytest.approx(0.75)
    assert (ppo["prompts"], ppo["labels"]) == (4, 6)


def test_a_prompt_enters_the_sequential_test_once_it_is_done_and_stays_as_it_was(
    store: Store, study: Study, clock: Clock
) -> None:
    """Two of three labels are not enough; a later comparison of the same prompt, and labels beyond three, change nothing."""
    (first,) = add_duel(store, study, [1], judges=2)
    assert blind(store, study)["policies"]["ppo"]["sequential"]["decision"] == "open"
    assert "n" not in blind(store, study)["policies"]["ppo"]["sequential"]
    clock.now += 1
    new, old = first.items
    store.rankings.add_imported(add_annotator(store, "third"), first, [[old], [new]])
    early = blind(store, study)["policies"]["ppo"]
    assert early["sequential"]["n"] == 1 and early["sequential"]["value"] == pytest.approx(2 / 3)
    clock.now += 1
    store.rankings.add_imported(add_annotator(store, "fourth"), first, [[old], [new]])
    responses = [Response.make(first.prompt, name, f"{name} again", 8, 0) for name in ("ppo", "sft")]
    store.responses.add(responses)
    again = store.comparisons.add(study, first.prompt, responses, origin="blind")
    assert again is not None
    for i in range(3):
        store.rankings.add_imported(add_annotator(store, f"late {i}"), again, [[responses[1].id], [responses[0].id]])
    late = blind(store, study)["policies"]["ppo"]
    assert late["sequential"]["value"] == pytest.approx(2 / 3)
    assert late["win_rate"]["value"] == pytest.approx(2 / 7)


def test_prompts_enter_in_the_order_in_which_they_were_done(store: Store, study: Study, clock: Clock) -> None:
    """The first prompt that was asked about is done last."""
    (slow,) = add_duel(store, study, [1], judges=2, about="Slow")
    clock.now += 10
    add_duel(store, study, [0, 0.5], about="Fast")
    clock.now += 10
    store.rankings.add_imported(add_annotator(store, "third"), slow, [[item] for item in slow.items])
    looks = blind(store, study)["policies"]["ppo"]["sequential"]["looks"]
    assert [mean for _, mean, _, _ in looks] == pytest.approx([0.0, 0.25, 0.5])


def test_rankings_through_the_queue_count_too(store: Store, study: Study) -> None:
    """Not only imported ones: leases, the order shown, and the same statistics."""
    add_duel(store, study, [1, 1, 1], judges=0)
    for name in "abc":
        person = add_annotator(store, name)
        for _ in range(3):
            rank(store, study, person)
    ppo = blind(store, study)["policies"]["ppo"]
    assert ppo["labels"] == 9 and ppo["sequential"]["n"] == 3
    assert ppo["win_rate"]["value"] == 0  # `take` shows the items backwards and `rank` keeps that order
