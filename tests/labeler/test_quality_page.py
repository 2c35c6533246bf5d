"""The admins' tables of people and studies, and the owners' section on the quality of labels."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from labeler.accounts import Forbidden
from labeler.pages import ops, quality
from preferences import summary
from preferences.records import Annotator, Comparison, Response, Study
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.preferences.make import add_comparison, add_policy, add_prompt, answer_of, rank, take

DAY = 86_400.0
MONDAY = 1_800_230_400.0  # 2027-01-18, 00:00 UTC


@pytest.fixture
def rated(store: Store, study: Study) -> Store:
    """Two annotators, two models, six pairs in two weeks: they agree in the first week, and on two of three in the second."""
    people = [store.annotators.add(name, "annotator", "") for name in ("ann", "bob")]
    policies = [add_policy(store, name) for name in ("m1", "m2")]
    for i in range(6):
        prompt = add_prompt(store, f"Question {i}?")
        responses = [Response.make(prompt.id, policy.id, f"{policy.name} {i}", 0, 0) for policy in policies]
        store.responses.add(responses)
        made = store.comparisons.add(study, prompt.id, responses)
        assert made is not None
        for number, person in enumerate(people):
            turned = (i == 5 and number == 1) or i == 0
            order = made.items[::-1] if turned else made.items
            store.rankings.add_imported(
                person,
                made,
                [[item] for item in order],
                created=MONDAY + DAY * (7 * (i >= 3) + i % 2),
                active_ms=60_000,
            )
    return store


def request(account: Annotator) -> Any:
    return SimpleNamespace(username=account.id)


def test_people_and_studies_with_the_rankings_that_count(
    store: Store, study: Study, comparisons: dict[int, Comparison]
) -> None:
    """Of simulated annotators too, but neither skips nor gold."""
    adam, ann, robot = (
        add_account(store, "adam", "admin"),
        add_account(store, "ann"),
        add_account(store, "robot", simulated=True),
    )
    for annotator in (ann, ann, robot):
        rank(store, study, annotator)
    gold = store.queue.lease(comparisons[9].id, ann, comparisons[9].items, 60, "gold")
    store.rankings.submit(ann, answer_of(gold))
    skipped = take(store, study, ann)
    assert skipped is not None
    store.rankings.skip(ann, answer_of(skipped, []))
    store.studies.create("other")
    assert ops.people(store, request(adam)) == [
        ["adam", "admin", "no", "yes", "0"],
        ["ann", "annotator", "no", "yes", "2"],
        ["robot", "annotator", "yes", "yes", "1"],
    ]
    waiting = str(store.queue.waiting(study))
    assert ops.studies(store, request(adam)) == [
        ["main", "active", "4", "8", "3", waiting],
        ["other", "active", "4", "0", "0", "0"],
    ]
    assert len(store.rankings.current(simulated=True)) == 3


def test_what_the_section_shows(rated: Store) -> None:
    rita = request(add_account(rated, "rita", "researcher"))
    shown, statistics, annotators, models, answers, pairs, places, days, weeks = quality.quality(rated, "main", rita)
    assert shown.visible
    assert statistics[0][:2] == ["Pairwise agreement", f"{5 / 6:.3f}"]
    assert [
        "Self-consistency",
        "undefined, because no annotator has ranked a comparison a second time, as a hidden repeat",
    ] in [row[:2] for row in statistics]
    assert [row[:2] for row in annotators] == [["ann", "6"], ["bob", "6"]]
    assert annotators[0][5:] == ["60", "0"]
    assert [row[0] for row in models] == ["m1", "m2"]
    assert models[0][1] == f"{9 / 12:.3f}"
    assert places.y_lim == weeks.y_lim == [0, 1]  # a cut axis would make small differences look large
    assert days.y_lim == [0, 4] and answers.y_lim == pairs.y_lim == [0, 12]
    assert dict(zip(*columns(answers), strict=True)) == {**dict.fromkeys(quality.RANKINGS.values(), 0), "no ties": 12}
    assert dict(zip(*columns(pairs), strict=True)) == {"put apart": 12, "tied": 0, "not compared": 0}
    assert weeks.visible


def columns(plot: Any) -> list[list[Any]]:
    """What a plot shows, column by column."""
    return [list(column) for column in zip(*plot.value["data"], strict=True)]


def test_a_study_is_chosen_or_all_of_them_are_meant(rated: Store) -> None:
    """Another study's answers without an order: all bad, nobody could rank, and a skip."""
    other = rated.studies.create("other")
    made = [add_comparison(rated, other, f"Other {i}?", ("x", "y")) for i in range(3)]
    bob = rated.annotators.get("bob")
    for comparison, said in zip(made, ({"all_bad": True}, {"verdict": "cannot_rank"}, {}), strict=True):
        lease = rated.queue.lease(comparison.id, bob, comparison.items, 60)
        act = rated.rankings.submit if "all_bad" in said else rated.rankings.skip
        act(bob, replace(answer_of(lease, []), **said))
    rita = request(add_account(rated, "rita", "researcher"))
    counted = {
        chosen: dict(zip(*columns(quality.quality(rated, chosen, rita)[4]), strict=True))
        for chosen in ("main", "other", None)
    }
    apart = {"all bad": 1, "cannot rank": 1, "skipped": 1}
    assert {name: number for name, number in counted["other"].items() if number} == apart
    assert {name: number for name, number in counted["main"].items() if number} == {"no ties": 12}
    assert {name: number for name, number in counted[None].items() if number} == {"no ties": 12, **apart}


def test_throughput_and_agreement_over_time(rated: Store) -> None:
    history = summary.history(rated)
    assert history.weeks == [("2027-01-18", 1.0), ("2027-01-25", pytest.approx(2 / 3))]
    assert list(history.days.values()) == [4, 2, 2, 4]


def test_nothing_ranked_is_an_empty_section(store: Store) -> None:
    adam = request(add_account(store, "adam", "admin"))
    _, statistics, annotators, models, *plots = quality.quality(store, None, adam)
    assert statistics[0][1] == "undefined, because no comparison was ranked by two annotators"
    assert annotators == models == []
    assert not any(plot.visible for plot in plots)


def test_worths_of_best_and_worst_alone_are_warned_of() -> None:
    worth = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    models: dict[str, Any] = {"worths": {"m": worth}, "controlled": {"worths": {"m": worth}}}
    assert quality.strengths(models) == [["m", "0.500", "0.400 to 0.600", "0.500", "3"]]
    models["best_worst"] = {"rankings": 2, "of": 3, "warning": "worths lie too far apart"}
    assert quality.strengths(models)[1:] == [["Caution: worths lie too far apart.", "", "", "", "2"]]


def test_only_owners_may(rated: Store) -> None:
    with pytest.raises(Forbidden):
        quality.quality(rated, "main", request(rated.annotators.get("ann")))
