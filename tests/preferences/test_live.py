"""Reward accuracy by day and strength, stale data, drift of form, odd answers and what people think of them."""

import sqlite3

import pytest

from preferences.errors import RankloopError, UnknownName
from preferences.live import drift, live_accuracy, staleness
from preferences.oddities import refusals, repetition
from preferences.plan import Plan
from preferences.records import Policy, Response, Study
from preferences.store import Store
from tests.preferences.make import Clock, add_annotator, add_checks, add_comparison, add_duel, add_prompt

DAY = 86_400.0
REWARD = "/runs/reward/adapter"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> Store:
    return Store(tmp_path_factory.mktemp("live") / "s.db", clock)


@pytest.fixture
def study(store: Store) -> Study:
    made = store.studies.create("main", plan=Plan(repeats=0.0).as_dict())
    for at, name in enumerate(("sft", "ppo"), 1):
        store.policies.add(Policy(name, name, name, created=at))  # type: ignore[arg-type]
    return made


def test_accuracy_by_day_and_by_strength(store: Store, study: Study, clock: Clock) -> None:
    """The reward always likes ppo best. Day one: people agree on two of three, and tie the fourth. Day two: they do not."""
    one = add_duel(store, study, [1, 1, 0, 0.5], judges=1, about="One")
    clock.now += DAY
    two = add_duel(store, study, [0, 0], judges=0, about="Two")
    ann = add_annotator(store)
    for comparison, strength in zip(two, (1, 4), strict=True):
        new, old = comparison.items
        store.rankings.add_imported(ann, comparison, [[old], [new]], strengths=[strength])
    unscored = add_duel(store, study, [1], judges=1, about="Unscored")
    for comparison in (*one, *two):
        new, old = comparison.items
        store.scores.add(REWARD, {new: 1.0, old: -1.0})
    found = live_accuracy(store, study, REWARD)
    assert (found["all"]["value"], found["all"]["n"]) == (pytest.approx(2 / 5), 5)
    assert [(one["value"], one["n"]) for one in found["days"].values()] == [(pytest.approx(2 / 3), 3), (0.0, 2)]
    assert {word: one["value"] for word, one in found["strengths"].items()} == {
        "not said": pytest.approx(2 / 3), "negligibly": 0.0, "much": 0.0,
    }  # fmt: skip
    assert found["unscored"] == len(unscored) == 1
    assert "undefined" in live_accuracy(store, study, "another")["all"]


def test_only_held_out_prompts_are_judged(store: Store, study: Study) -> None:
    comparison = add_comparison(store, study, "A training prompt?", ("a", "b"))
    store.rankings.add_imported(add_annotator(store), comparison, [[item] for item in comparison.items])
    store.scores.add(REWARD, dict.fromkeys(comparison.items, 0.0))
    assert "undefined" in live_accuracy(store, study, REWARD)["all"]


def test_scores_are_kept_once_a_reward_model(store: Store, study: Study, clock: Clock) -> None:
    (comparison,) = add_duel(store, study, [1], judges=0)
    new, old = comparison.items
    assert store.scores.add(REWARD, {new: 1.0, old: 0.0}) == 2
    assert store.scores.add(REWARD, {new: 5.0}) == 0
    clock.now += 1
    assert store.scores.add("other", {new: 5.0}) == 1
    assert store.scores.of(REWARD, [new, old, "none"]) == {new: 1.0, old: 0.0}
    assert [(name, count) for name, count, _ in store.scores.rewards()] == [("other", 1), (REWARD, 2)]


def test_how_stale_the_training_rankings_are(store: Store, study: Study) -> None:
    """Two rankings of four answers by sft, and one of three by ppo and one by sft."""
    assert staleness(store, study)["current"] is None
    ann = add_annotator(store)
    old = [add_comparison(store, study, f"Old {i}?") for i in range(2)]
    prompt = add_prompt(store, "New?")
    answers = [
        Response.make(prompt.id, name, f"{name} {i}", 1, i) for i, name in enumerate(("ppo", "ppo", "ppo", "sft"))
    ]
    store.responses.add(answers)
    new = store.comparisons.add(study, prompt.id, answers)
    assert new is not None
    for comparison in (*old, new):
        store.rankings.add_imported(ann, comparison, [[item] for item in comparison.items])
    store.studies.set_sampling_policies(study, [store.policies.get("ppo")])
    found = staleness(store, study)
    assert found["answers"] == 12 and found["current"] == pytest.approx(3 / 12)
    assert found["policies"] == {"sft": pytest.approx(9 / 12), "ppo": pytest.approx(3 / 12)}


def test_how_answers_drift(store: Store, study: Study) -> None:
    prompt = add_prompt(store, "A list?")
    store.studies.add_prompts(study, [prompt])
    texts = {"sft": ["Yes.", "No."], "ppo": ["- one\n- two", "**I'm sorry, but** I cannot say that, that, that, that."]}
    for name, own in texts.items():
        store.responses.add(
            Response.make(prompt.id, name, text, 1, i, finish_reason="length" if name == "ppo" else "stop")
            for i, text in enumerate(own)
        )
    other = add_prompt(store, "Of another study?")
    store.responses.add([Response.make(other.id, "sft", "# A heading", 1, 0)])
    sft, ppo = drift(store, study)
    assert (sft["policy"], sft["answers"], sft["characters"]) == ("sft", 2, 3.5)
    assert (sft["lists"], sft["headings"], sft["refusals"], sft["cut"]) == (0, 0, 0, 0)
    assert (ppo["lists"], ppo["bold"], ppo["refusals"], ppo["cut"]) == (0.5, 0.5, 0.5, 1)
    assert ppo["repetition"] == pytest.approx(repetition(texts["ppo"][1]) / 2) and ppo["repetition"] > 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("I'm sorry, but I can't help with that.", 2),
        ("As an AI, I am happy to help.", 1),
        ("I’m unable to say.", 1),
        ("Tell them you cannot come.", 0),
        ("The sorry state of it.", 0),
    ],
)
def test_phrases_of_refusal(text: str, count: int) -> None:
    assert refusals(text) == count


def test_repetition_by_hand() -> None:
    """a b c a b c: of four runs of three one was said before."""
    assert repetition("a b c a b c") == pytest.approx(1 / 4)
    assert repetition("a b") == 0


def test_the_oddest_answers_come_first_and_once_for_each_person(store: Store, study: Study) -> None:
    add_checks(store, study, ("ppo", "sft"))
    ann, ben = add_annotator(store, "ann"), add_annotator(store, "ben")
    seen = []
    while found := store.spot_checks.next(study, ann, "longest"):
        seen.append(found.value)
        store.spot_checks.judge(found.id, ann, passed=len(seen) == 1, note="why")
    assert len(seen) == 2 and seen == sorted(seen, reverse=True)
    assert store.spot_checks.next(study, ann) is not None  # of the other kind
    first = store.spot_checks.next(study, ben, "longest")
    assert first is not None and first.value == seen[0]
    store.spot_checks.judge(first.id, ben, passed=False)
    store.spot_checks.judge(first.id, ben, passed=True)  # changed their mind: the last one counts
    outcomes = {row["kind"]: row for row in store.spot_checks.outcomes(study)}
    assert outcomes["longest"] == {"policy": "ppo", "kind": "longest", "queued": 2, "judged": 3, "passed": 2}
    assert outcomes["most repetitive"]["judged"] == 0
    with pytest.raises(UnknownName):
        store.spot_checks.judge("none", ann, passed=True)
    with pytest.raises(RankloopError, match="at most 2,000 characters"):
        store.spot_checks.judge(first.id, ann, passed=True, note="x" * 2001)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.write() as db:
        db.execute("DELETE FROM spot_verdicts")


def test_an_answer_is_queued_once_a_kind(store: Store, study: Study) -> None:
    add_checks(store, study, ("ppo", "sft"))
    check = store.spot_checks.next(study, add_annotator(store), "longest")
    assert check is not None
    assert store.spot_checks.add(study, "longest", [(check.response, 9.0, None)]) == 0
    assert store.spot_checks.add(study, "highest reward", [(check.response, 9.0, None)]) == 1
