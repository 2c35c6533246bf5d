"""The admins' page: its tables of people and studies, and the section on the quality of labels."""

from types import SimpleNamespace
from typing import Any

import pytest

from labeler.accounts import Forbidden
from labeler.pages import ops, quality
from preferences import summary
from preferences.records import Annotator, Comparison, Response, Study
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.preferences.make import add_policy, add_prompt, answer_of, rank, take

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
    shown, statistics, annotators, models, places, days, weeks = quality.quality(
        rated, request(add_account(rated, "adam", "admin"))
    )
    assert shown.visible
    assert statistics[0][:2] == ["Pairwise agreement", f"{5 / 6:.3f}"]
    assert [
        "Self-consistency",
        "undefined: no annotator has ranked a comparison a second time, as a hidden repeat",
    ] in [row[:2] for row in statistics]
    assert [row[:2] for row in annotators] == [["ann", "6"], ["bob", "6"]]
    assert annotators[0][5:] == ["60", "0"]
    assert [row[0] for row in models] == ["m1", "m2"]
    assert models[0][1] == f"{9 / 12:.3f}"
    assert places.y_lim == weeks.y_lim == [0, 1]  # a cut axis would make small differences look large
    assert days.y_lim == [0, 4]
    assert weeks.visible


def test_throughput_and_agreement_over_time(rated: Store) -> None:
    history = summary.history(rated)
    assert history.weeks == [("2027-01-18", 1.0), ("2027-01-25", pytest.approx(2 / 3))]
    assert list(history.days.values()) == [4, 2, 2, 4]


def test_nothing_ranked_is_an_empty_section(store: Store) -> None:
    _, statistics, annotators, models, *plots = quality.quality(store, request(add_account(store, "adam", "admin")))
    assert statistics[0][1] == "undefined: no comparison was ranked by two annotators"
    assert annotators == models == []
    assert not any(plot.visible for plot in plots)


def test_only_admins_may(rated: Store) -> None:
    with pytest.raises(Forbidden):
        quality.quality(rated, request(rated.annotators.get("ann")))
