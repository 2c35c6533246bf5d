"""What may be ranked next, by whom, and what of it counts."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from preferences.errors import NameTaken, NothingToUndo, NotLeased, UnknownName
from preferences.plan import Plan, is_repeated
from preferences.records import Annotator, Comparison, Lease, Offer, Pick, Study, Tiers
from preferences.store import Store
from preferences.tables.counters import Counters
from tests.conftest import PLAIN
from tests.preferences.make import (
    SECONDS,
    Clock,
    add_annotator,
    add_comparison,
    add_prompt,
    answer_of,
    rank,
    take,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(store: Store) -> list[Annotator]:
    return [add_annotator(store, name) for name in ("ann", "bea", "cem", "dan")]


def study_with(store: Store, **plan: object) -> Study:
    return store.studies.create("s", plan={**PLAIN, **plan})


def add_many(store: Store, study: Study, count: int) -> list[Comparison]:
    return [add_comparison(store, study, f"question {n} {n} {n}?") for n in range(count)]


def rank_as(store: Store, study: Study, annotator: Annotator, tops: Sequence[int]) -> Lease | None:
    """Take and rank with the items of those numbers (of the comparison's own order) in the first tier."""
    lease = take(store, study, annotator)
    if lease:
        items = store.comparisons.get(lease.comparison).items
        best = [items[number] for number in tops]
        store.rankings.submit(annotator, answer_of(lease, [best, [item for item in items if item not in best]]))
    return lease


def counters_are_right(store: Store, study: Study) -> bool:
    """Whether what is kept as counts is what counting from scratch gives."""
    sql = "SELECT id, wanted, extra, labels, labels_simulated FROM comparisons ORDER BY id"
    before = store.queue.rows(sql), store.queue.rows("SELECT open FROM studies")
    Counters(store).recount(study)
    fits = "SELECT count(*) FROM comparisons WHERE study = ? AND labels < wanted + extra AND asked_by IS NULL"
    counted = store.queue.number(fits, study.id) == store.queue.number(
        "SELECT open FROM studies WHERE id = ?", study.id
    )
    return counted and before == (store.queue.rows(sql), store.queue.rows("SELECT open FROM studies"))


def test_a_shared_and_a_held_out_comparison_want_more_labels(store: Store, people: list[Annotator]) -> None:
    study = store.studies.create("s", plan={"shared": 1.0, "labels_shared": 2, "labels_heldout": 3})
    add_prompt(store, "held out question", heldout=1.0)
    shared, heldout = add_comparison(store, study, "a question"), add_comparison(store, study, "held out question")
    for person in people:
        while take(store, study, person):
            rank_as(store, study, person, [0])
    labels = [ranking.comparison for ranking in store.rankings.current(study.id)]
    assert sorted(labels) == sorted([shared.id] * 2 + [heldout.id] * 3)
    assert store.queue.waiting(study) == 0 and counters_are_right(store, study)


def test_simulated_annotators_take_no_place_of_a_person(store: Store, people: list[Annotator]) -> None:
    study = study_with(store)
    add_many(store, study, 3)
    robots = [add_annotator(store, f"robot{number}", simulated=True) for number in range(2)]
    held = take(store, study, robots[0])
    assert held is not None and store.queue.waiting(study) == 3
    for robot in robots:
        while take(store, study, robot):
            rank_as(store, study, robot, [0])
    assert len(store.rankings.current(study.id, simulated=True)) == 3  # their own places are as many
    assert store.queue.waiting(study) == 3 and len(store.queue.candidates(study, people[0])) == 3
    for _ in range(3):
        rank_as(store, study, people[0], [0])
    assert store.queue.waiting(study) == 0 and counters_are_right(store, study)


def test_the_undo_of_a_skip_does_not_exceed_the_overlap(store: Store, people: list[Annotator]) -> None:
    ann, bea = people[:2]
    study = study_with(store)
    add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None
    store.rankings.skip(ann, answer_of(lease))
    theirs = take(store, study, bea)
    assert theirs is not None
    before = store.db["rankings"].count
    with pytest.raises(NothingToUndo, match="Others have taken"):
        store.rankings.undo(ann, "undo-one", SECONDS)
    store.rankings.submit(bea, answer_of(theirs))
    with pytest.raises(NothingToUndo):
        store.rankings.undo(ann, "undo-two", SECONDS)
    assert store.db["rankings"].count == before + 1 and len(store.rankings.current()) == 1
    store.rankings.undo(bea, "undo-bea", SECONDS)
    held = store.queue.held(bea)
    assert held is not None
    store.queue.release(held)
    store.rankings.undo(ann, "undo-three", SECONDS)
    assert store.queue.held(ann) is not None


def test_a_lease_that_ran_out_is_not_had_again_once_others_have_its_place(
    store: Store, people: list[Annotator], clock: Clock
) -> None:
    ann, bea = people[:2]
    study = study_with(store)
    comparison = add_comparison(store, study)
    late = take(store, study, ann)
    clock.now += SECONDS
    theirs = take(store, study, bea)
    assert late is not None and theirs is not None
    with pytest.raises(NotLeased, match="Others have taken"):
        store.queue.revive(late.id, ann, comparison.id, SECONDS)
    store.rankings.submit(bea, answer_of(theirs))
    with pytest.raises(NotLeased, match="Others have taken"):
        store.queue.revive(late.id, ann, comparison.id, SECONDS)
    assert len(store.rankings.current()) == 1
    store.rankings.undo(bea, "undo-one", SECONDS)
    clock.now += SECONDS
    revived = store.queue.revive(late.id, ann, comparison.id, SECONDS)
    store.rankings.submit(ann, answer_of(revived))
    with pytest.raises(NotLeased):
        store.queue.revive(theirs.id, bea, comparison.id, SECONDS)


def test_of_two_who_hold_the_last_place_the_first_has_it_and_the_other_goes_on(
    store: Store, people: list[Annotator], clock: Clock
) -> None:
    """The clock is set back, so that a lease which had run out is open again."""
    ann, bea = people[:2]
    study = study_with(store)
    first, second = add_many(store, study, 2)
    late = take(store, study, ann)
    clock.now += SECONDS
    theirs = take(store, study, bea)
    clock.now -= SECONDS
    assert late is not None and theirs is not None and late.comparison == theirs.comparison == first.id
    store.rankings.submit(bea, answer_of(theirs))
    before = store.db["rankings"].count
    with pytest.raises(NotLeased, match="Others have ranked"):
        store.rankings.submit(ann, answer_of(late))
    with pytest.raises(NotLeased, match="Others have taken"):
        store.queue.revive(late.id, ann, first.id, SECONDS)
    assert store.db["rankings"].count == before
    following = take(store, study, ann)
    assert following is not None and following.comparison == second.id


def test_what_no_longer_counts_comes_back_only_while_there_is_a_place(store: Store, people: list[Annotator]) -> None:
    ann, bea = people[:2]
    study = study_with(store)
    add_comparison(store, study)
    old = rank(store, study, ann)
    store.studies.set_guideline(study, "Be fair.")
    store.exclusions.requeue_outdated(study)
    rank(store, study, bea)
    with pytest.raises(NothingToUndo, match="Others have taken"):
        store.rankings.reopen(ann, old, SECONDS)
    with pytest.raises(NothingToUndo, match="Others have taken"):
        store.rankings.undo(ann, "undo-one", SECONDS)
    assert len(store.rankings.current()) == 1 and counters_are_right(store, study)


def test_no_one_is_asked_to_adjudicate_once_one_label_is_wanted(store: Store, people: list[Annotator]) -> None:
    study = study_with(store, labels_train=2)
    add_comparison(store, study)
    for number, person in enumerate(people[:2]):
        rank_as(store, study, person, [number])
    assert store.queue.waiting(study) == 1
    study = store.studies.edit(study, plan={"labels_train": 1})
    assert store.queue.waiting(study) == 0
    store.exclusions.exclude(study, people[0], "at random")
    assert store.queue.waiting(study) == 0 and counters_are_right(store, study)


def test_one_more_is_asked_where_the_labels_split_over_the_best(store: Store, people: list[Annotator]) -> None:
    study = study_with(store, labels_train=2)
    split, agreed = add_many(store, study, 2)
    ann, bea, cem, dan = people
    for number, person in enumerate((ann, bea)):
        for _ in range(2):
            lease = take(store, study, person)
            assert lease is not None and lease.purpose == "label"
            items = store.comparisons.get(lease.comparison).items
            best = items[number if lease.comparison == split.id else 0]
            store.rankings.submit(person, answer_of(lease, [[best], [item for item in items if item != best]]))
    assert store.queue.waiting(study) == 1
    assert take(store, study, ann) is None  # not by those who split
    lease = rank_as(store, study, cem, [1])
    assert lease is not None and (lease.comparison, lease.purpose) == (split.id, "adjudication")
    assert take(store, study, dan) is None
    purposes = [ranking.purpose for ranking in store.rankings.current() if ranking.comparison == split.id]
    assert purposes == ["label", "label", "adjudication"]
    assert {ranking.purpose for ranking in store.rankings.current() if ranking.comparison == agreed.id} == {"label"}
    assert counters_are_right(store, study)
    store.rankings.undo(cem, "undo-cem", SECONDS)
    again = store.queue.held(cem)
    assert again is not None and again.purpose == "adjudication"
    other = store.studies.edit(study, plan={"adjudicate": False})
    assert store.queue.waiting(other) == 0


def test_a_tie_for_the_best_that_all_see_is_no_split(store: Store, people: list[Annotator]) -> None:
    study = study_with(store, labels_train=2)
    add_comparison(store, study)
    for person in people[:2]:
        rank_as(store, study, person, [0, 1])
    assert store.queue.waiting(study) == 0


def test_what_a_study_repeats_is_asked_again_later_in_the_reversed_order(store: Store, people: list[Annotator]) -> None:
    study = study_with(store, repeats=0.3, repeat_gap=3)
    comparisons = add_many(store, study, 30)
    ann = people[0]
    leases: list[Lease] = []

    def choose(offer: Offer) -> Pick | None:
        if offer.repeats:
            return Pick(offer.repeats[0], "repeat")
        return Pick(offer.candidates[0].comparison) if offer.candidates else None

    while lease := store.queue.take(study, ann, choose, lambda made: made.items[::-1], SECONDS):
        leases.append(lease)
        store.rankings.submit(ann, answer_of(lease))
    plan = Plan.of(study.plan)
    expected = {comparison.id for comparison in comparisons if is_repeated(plan, comparison.id)}
    repeats = [lease.comparison for lease in leases if lease.purpose == "repeat"]
    assert len(repeats) == len(set(repeats)) >= 5 and set(repeats) <= expected
    for ident in repeats:
        first, second = [place for place, lease in enumerate(leases) if lease.comparison == ident]
        assert leases[second].order == leases[first].order[::-1]
        assert second - first > plan.repeat_gap
    late = {lease.comparison for lease in leases if lease.purpose == "label"} - set(repeats)
    assert len(expected & late) <= 4  # those ranked last have no later
    # A repeat is nobody's label.
    assert len(store.rankings.current(study.id)) == 30
    assert len(store.rankings.current(study.id, purposes=["repeat"])) == len(repeats)
    assert store.rankings.progress(ann, [study], 0)["mine"] == 30 + len(repeats)
    assert counters_are_right(store, study)


def test_a_withdrawn_ranking_is_not_repeated(store: Store, people: list[Annotator]) -> None:
    study = study_with(store, repeats=1.0, repeat_gap=0)
    add_many(store, study, 2)
    rank_as(store, study, people[0], [0])
    store.rankings.undo(people[0], "undo-one", SECONDS)
    held = store.queue.held(people[0])
    assert held is not None and store.queue.offer(study, people[0]).repeats == []
    store.rankings.submit(people[0], answer_of(held))
    assert store.queue.offer(study, people[0]).repeats == [held.comparison]


def test_languages_and_topics(store: Store, people: list[Annotator]) -> None:
    study = study_with(store)
    made = {}
    for language, tags in (("en", []), ("de", []), ("", ["war"])):
        (prompt,) = store.prompts.add(
            [{"messages": [{"role": "user", "content": f"{language}{tags}"}], "language": language, "tags": tags}], 0.0
        )
        made[language] = add_comparison(store, study, prompt.messages[0]["content"]).id
        store.studies.add_prompts(study, [prompt])

    def given(annotator: Annotator) -> set[str]:
        return {candidate.comparison for candidate in store.queue.candidates(study, annotator)}

    ann = people[0]
    assert given(ann) == set(made.values())
    store.annotators.set_languages(ann, ["de"])
    ann = store.annotators.change_settings(ann, {"avoid": ["war"]})
    assert given(ann) == {made["de"]} and store.queue.has_prompts_for(study, ann)
    store.annotators.set_languages(ann, ["fr"])
    assert not store.queue.has_prompts_for(study, store.annotators.get("ann"))


def test_quotas(store: Store, people: list[Annotator], clock: Clock) -> None:
    study = study_with(store, quota=3, quota_day=2)
    add_many(store, study, 6)
    ann = people[0]
    assert [bool(rank_as(store, study, ann, [0])) for _ in range(3)] == [True, True, False]
    assert store.queue.refusal(study, ann) == "quota" and store.queue.refusal(study, people[1]) is None
    clock.now += 24 * 3600
    assert [bool(rank_as(store, study, ann, [0])) for _ in range(2)] == [True, False]


def test_an_exclusion_takes_rankings_out_of_everything_and_is_reversible(store: Store, people: list[Annotator]) -> None:
    ann, bea = people[:2]
    study = study_with(store)
    comparisons = add_many(store, study, 3)
    for _ in range(2):
        rank_as(store, study, ann, [0])
    lease = take(store, study, ann)
    assert lease is not None and store.queue.waiting(study) == 0
    assert store.exclusions.exclude(study, ann, "answers at random") == 2
    assert store.rankings.current(study.id) == [] and store.counts.all()["rankings"] == 0
    assert store.comparisons.ranked_ids(study, None, True) == []
    assert store.queue.waiting(study) == 3
    with pytest.raises(NotLeased):
        store.rankings.submit(ann, answer_of(lease))
    assert take(store, study, ann) is None and store.queue.refusal(study, ann) == "excluded"
    assert len(store.rankings.history(ann)) == 2  # their own view of it stays
    with pytest.raises(NameTaken, match="already"):
        store.exclusions.exclude(study, ann, "again")
    assert rank_as(store, study, bea, [0]) is not None
    assert counters_are_right(store, study)
    assert store.exclusions.lift(study, ann) == 2
    assert len(store.rankings.current(study.id)) == 3
    assert {ranking.comparison for ranking in store.rankings.current()} <= {c.id for c in comparisons}
    assert [bool(one.lifted) for one in store.exclusions.all(study)] == [True]
    with pytest.raises(UnknownName, match="not excluded"):
        store.exclusions.lift(study, ann)
    assert counters_are_right(store, study)
    other = store.studies.create("other", plan=PLAIN)
    add_comparison(store, other)
    store.exclusions.exclude(study, ann, "there only")
    assert take(store, other, ann) is not None


def test_what_was_ranked_under_older_guidelines_is_ranked_again(store: Store, people: list[Annotator]) -> None:
    ann, bea = people[:2]
    study = study_with(store)
    add_many(store, study, 3)
    with pytest.raises(UnknownName, match="no guidelines"):
        store.exclusions.requeue_outdated(study)
    before = rank(store, study, ann)
    store.studies.set_guideline(study, "Be fair.")
    under_first = rank(store, study, ann)
    store.studies.set_guideline(study, "Be fair and brief.")
    under_second = rank(store, study, bea)
    assert store.exclusions.requeue_outdated(study) == 2
    assert [ranking.id for ranking in store.rankings.current()] == [under_second]
    assert store.queue.waiting(study) == 2
    again = rank(store, study, ann)  # by the same person: it supersedes
    (new,) = [ranking for ranking in store.rankings.current() if ranking.id == again]
    assert new.supersedes in (before, under_first)
    rank(store, study, bea)  # or by another
    assert store.queue.waiting(study) == 0 and len(store.rankings.current()) == 3
    assert store.exclusions.requeue_outdated(study) == 0
    assert counters_are_right(store, study)


def test_a_changed_plan_reaches_what_is_there_already(store: Store, people: list[Annotator]) -> None:
    study = study_with(store)
    add_many(store, study, 2)
    for _ in range(2):
        rank_as(store, study, people[0], [0])
    assert store.queue.waiting(study) == 0
    study = store.studies.edit(study, plan={"labels_train": 2})
    assert store.queue.waiting(study) == 2 and take(store, study, people[0]) is None
    assert take(store, study, people[1]) is not None


def test_the_window_hides_nothing(store: Store, people: list[Annotator], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has ranked all that stands in front is given what stands behind it."""
    monkeypatch.setattr("preferences.tables.supply.WINDOW", 2)
    study = study_with(store, labels_train=2)
    add_many(store, study, 7)
    for person in people[:2]:
        assert sum(bool(rank_as(store, study, person, [0])) for _ in range(9)) == 7


def gold_study(store: Store, count: int, **plan: object) -> tuple[Study, dict[str, Tiers]]:
    """A study with so many gold comparisons, in which the first response of each is the best, and ten others."""
    study = study_with(store, **plan)
    golds = {}
    for number in range(count):
        comparison = add_comparison(store, study, f"gold {number} {number} {number}")
        best, *others = comparison.items
        golds[comparison.id] = [[best], others]
        store.golds.add(comparison, golds[comparison.id], "It alone is right.")
    add_many(store, study, 10)
    return study, golds


def choose_gold(offer: Offer) -> Pick | None:
    if offer.golds:
        return Pick(offer.golds[0], "gold")
    return Pick(offer.candidates[0].comparison) if offer.candidates else None


def rank_gold(store: Store, study: Study, annotator: Annotator, golds: dict[str, Tiers], right: bool) -> Lease | None:
    lease = store.queue.take(study, annotator, choose_gold, lambda made: made.items, SECONDS)
    if lease:
        tiers = golds.get(lease.comparison, [lease.order])
        store.rankings.submit(annotator, answer_of(lease, tiers if right else tiers[::-1]))
    return lease


@pytest.mark.parametrize("right", [True, False])
def test_newcomers_rank_gold_first_and_go_on_if_they_agree(store: Store, people: list[Annotator], right: bool) -> None:
    study, golds = gold_study(store, 5, qualification=3, gold=1.0)
    ann = people[0]
    for _ in range(3):
        offer = store.queue.offer(study, ann)
        assert offer.qualifying and offer.candidates == [] and store.golds.is_explained(study, offer.golds[0])
        lease = rank_gold(store, study, ann, golds, right)
        assert lease is not None and lease.purpose == "gold"
    nxt = rank_gold(store, study, ann, golds, right)
    if not right:
        assert nxt is None and store.queue.refusal(study, ann) == "unqualified"
        store.golds.decide(study, ann, True, actor=people[1].id)
        nxt = rank_gold(store, study, ann, golds, right)
    assert nxt is not None and nxt.purpose == "gold" and not store.golds.is_explained(study, nxt.comparison)
    assert rank_gold(store, study, ann, golds, right) is not None
    assert not store.queue.offer(study, ann).golds
    lease = rank_gold(store, study, ann, golds, right)
    assert lease is not None and lease.purpose == "label"
    assert [ranking.comparison for ranking in store.rankings.current()] == [lease.comparison]
    assert store.queue.waiting(study) == 9  # gold waits for nobody's label


def test_the_score_counts_pairs_and_skips_as_wrong(store: Store, people: list[Annotator]) -> None:
    study, golds = gold_study(store, 2, qualification=2)
    ann = people[0]
    rank_gold(store, study, ann, golds, True)
    lease = store.queue.take(study, ann, choose_gold, lambda made: made.items, SECONDS)
    assert lease is not None
    store.rankings.skip(ann, answer_of(lease))
    assert store.golds.score(ann, list(golds)) == 0.5
    assert store.queue.take(study, ann, choose_gold, lambda made: made.items, SECONDS) is None
    row = store.queue.row("SELECT passed, agreement FROM qualifications")
    assert row == {"passed": 0, "agreement": 0.5}


def test_gold_is_added_once_and_removed(store: Store, people: list[Annotator]) -> None:
    study = study_with(store)
    comparison = add_comparison(store, study)
    tiers = [comparison.items[:1], comparison.items[1:]]
    made = store.golds.add(comparison, tiers, "why")
    assert store.golds.add(comparison, tiers, "why") == made and store.golds.all(study) == [made]
    with pytest.raises(NameTaken):
        store.golds.add(comparison, tiers[::-1])
    assert store.queue.waiting(study) == 0 and counters_are_right(store, study)
    store.golds.remove(comparison)
    assert store.golds.all(study) == [] and take(store, study, people[0]) is not None


def test_what_is_counted_is_right_after_a_crowd_has_done_everything_at_once(store: Store) -> None:
    """Eight threads rank, skip, undo and give back in a study with every kind of task; nothing exceeds the overlap."""
    study = store.studies.create("s", plan={"shared": 0.5, "labels_shared": 2, "repeats": 0.2, "repeat_gap": 2})
    add_many(store, study, 25)
    crowd = [add_annotator(store, f"a{number}") for number in range(8)]

    def choose(offer: Offer) -> Pick | None:
        if offer.repeats:
            return Pick(offer.repeats[0], "repeat")
        first = offer.candidates[0] if offer.candidates else None
        return Pick(first.comparison, first.purpose) if first else None

    def work(annotator: Annotator) -> None:
        for turn in range(40):
            lease = store.queue.take(study, annotator, choose, lambda made: made.items, SECONDS)
            if lease is None:
                break
            act = turn % 7
            if act == 3:
                store.rankings.skip(annotator, answer_of(lease))
            elif act == 5:
                store.queue.release(lease)
            else:
                store.rankings.submit(annotator, answer_of(lease))
            if act in (2, 3):
                try:
                    store.rankings.undo(annotator, f"undo-{turn:03}", SECONDS)
                except NothingToUndo:
                    pass
            over = store.queue.row(
                "SELECT id FROM comparisons AS c WHERE wanted + extra < labels + (SELECT count(*) FROM leases AS l "
                "WHERE l.comparison = c.id AND released IS NULL AND purpose != 'repeat')"
            )
            assert over is None
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, crowd))
    pairs = [(ranking.comparison, ranking.annotator) for ranking in store.rankings.current()]
    assert len(pairs) == len(set(pairs)) > 25
    assert counters_are_right(store, study)
    tallies = {row["annotator"]: row["rankings"] for row in store.queue.rows("SELECT * FROM tallies")}
    for person in crowd:
        standing = [one for one in store.rankings.history(person, 1000) if one.kind == "ranking"]
        assert tallies.get(person.id, 0) == len(standing)


def test_the_candidates_are_read_off_the_index(store: Store, people: list[Annotator]) -> None:
    """However many comparisons are done already: their number must not matter."""
    from preferences.tables.supply import candidates_sql, tastes

    study = study_with(store)
    for simulated in (False, True):
        parameters = {"study": study.id, "annotator": people[0].id, "now": 0, "limit": 9, "window": 9, **tastes(None)}
        plan = store.db.query("EXPLAIN QUERY PLAN " + candidates_sql(simulated), parameters)
        steps = json.dumps([step["detail"] for step in plan])
        assert "SCAN comparisons" not in steps and "SCAN r" not in steps and "SCAN l" not in steps, steps
