"""Submit, skip and undo: what an annotator does to a leased comparison."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from preferences.errors import BadTiers, NonceUsed, NothingToUndo, NotLeased, RankloopError
from preferences.records import Annotator, Lease, Study
from preferences.store import Store
from tests.preferences.make import SECONDS, Clock, add_annotator, add_comparison, answer_of, rank, take


@pytest.fixture
def clock() -> Clock:
    """Stands still: what orders two acts is when they were stored, not the time they carry."""
    return Clock()


@pytest.fixture
def ann(store: Store, study: Study) -> Annotator:
    """ann, with three comparisons waiting."""
    for number in range(3):
        add_comparison(store, study, f"question {number} {number} {number}?")
    return add_annotator(store, "ann")


@pytest.fixture
def lease(store: Store, study: Study, ann: Annotator) -> Lease:
    made = take(store, study, ann)
    assert made is not None
    return made


def rows(store: Store) -> dict[str, int]:
    """How many rows each table has."""
    return {table: store.db.table(table).count for table in store.db.table_names()}


def test_a_ranking_keeps_tiers_order_shown_and_guideline(
    store: Store, study: Study, ann: Annotator, lease: Lease
) -> None:
    guideline = store.studies.set_guideline(study, "Be fair.")
    tiers = [lease.order[1:3], [lease.order[0]], [lease.order[3]]]
    saved = store.rankings.submit(ann, answer_of(lease, tiers, "n"))
    assert store.rankings.current() == store.rankings.history(ann) == [saved]
    assert (saved.tiers, saved.order, saved.guideline) == (tiers, lease.order, guideline.id)
    assert store.rankings.of_nonce(ann, "n") == saved.id
    assert store.queue.held(ann) is None


def test_a_nonce_is_good_for_one_row_of_its_annotator(store: Store, study: Study, ann: Annotator, lease: Lease) -> None:
    """A retry after a lost answer is told the id of what it stored the first time."""
    saved = store.rankings.submit(ann, answer_of(lease, nonce="n"))
    other = take(store, study, ann)
    assert other is not None
    before = rows(store)
    for act in (store.rankings.submit, store.rankings.skip):
        for target in (lease, other):
            with pytest.raises(NonceUsed) as caught:
                act(ann, answer_of(target, nonce="n"))
            assert caught.value.ranking == saved.id
    with pytest.raises(NonceUsed):
        store.rankings.undo(ann, "n", SECONDS)
    assert rows(store) == before
    bea = add_annotator(store, "bea")
    theirs = take(store, study, bea)
    assert theirs is not None
    store.rankings.submit(bea, answer_of(theirs, nonce="n"))


def test_the_same_answer_from_eight_threads_is_stored_once(store: Store, ann: Annotator, lease: Lease) -> None:
    answer = answer_of(lease)

    def send(_: int) -> str:
        try:
            return store.rankings.submit(ann, answer).id
        except NonceUsed as error:
            return error.ranking
        finally:
            store.close()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert len(store.rankings.current()) == 1


@pytest.mark.parametrize("kind", ["incomplete", "unknown", "twice", "empty tier", "nothing"])
def test_tiers_that_are_no_ranking_store_nothing(store: Store, ann: Annotator, lease: Lease, kind: str) -> None:
    a, b, c, d = lease.order
    tiers = {
        "incomplete": [[a], [b], [c]],
        "unknown": [[a], [b], [c], [d], ["x"]],
        "twice": [[a], [b], [c], [d, a]],
        "empty tier": [[a], [b], [], [c], [d]],
        "nothing": [],
    }[kind]
    before = rows(store)
    with pytest.raises(BadTiers):
        store.rankings.submit(ann, answer_of(lease, tiers))
    assert rows(store) == before
    assert store.queue.held(ann) == lease


def refused(store: Store, annotator: Annotator, lease: Lease, error: type[RankloopError]) -> None:
    before = rows(store)
    for act in (store.rankings.submit, store.rankings.skip):
        with pytest.raises(error):
            act(annotator, answer_of(lease))
    assert rows(store) == before


def test_a_lease_that_ran_out_stores_nothing(store: Store, ann: Annotator, lease: Lease, clock: Clock) -> None:
    clock.now += SECONDS
    refused(store, ann, lease, NotLeased)


def test_a_released_lease_stores_nothing(store: Store, ann: Annotator, lease: Lease) -> None:
    store.rankings.submit(ann, answer_of(lease))
    refused(store, ann, lease, NotLeased)


def test_anothers_lease_stores_nothing(store: Store, ann: Annotator, lease: Lease) -> None:
    refused(store, add_annotator(store, "bea"), lease, NotLeased)
    assert store.queue.held(ann) == lease


def test_a_skip_keeps_its_reason_and_is_no_ranking(store: Store, study: Study, ann: Annotator, lease: Lease) -> None:
    answer = answer_of(lease, [["whatever"]])
    saved = store.rankings.skip(
        ann, type(answer)(answer.comparison, answer.lease, "n", [["x"]], reason="all are wrong")
    )
    assert (saved.kind, saved.tiers, saved.reason) == ("skip", [], "all are wrong")
    assert store.rankings.current() == []
    assert store.rankings.history(ann) == [saved]
    assert store.counts.all()["skips"] == 1
    assert store.rankings.progress(ann, [study], 0)["mine"] == 0


def test_an_undo_leases_the_same_again_in_the_same_order(
    store: Store, study: Study, ann: Annotator, lease: Lease
) -> None:
    tiers = [lease.order[:2], lease.order[2:]]
    saved = store.rankings.submit(ann, answer_of(lease, tiers))
    open_now = take(store, study, ann)
    assert open_now is not None and open_now.comparison != lease.comparison
    undone, again = store.rankings.undo(ann, "u", SECONDS)
    assert undone == saved
    assert (again.comparison, again.order) == (lease.comparison, lease.order)
    assert store.queue.held(ann) == take(store, study, ann) == again
    assert store.rankings.current() == []
    draft = store.queue.draft(lease.comparison, ann)
    assert draft is not None and draft.body == {"tiers": tiers}
    with pytest.raises(NotLeased):
        store.rankings.submit(ann, answer_of(open_now))
    better = store.rankings.submit(ann, answer_of(again))
    assert store.rankings.current() == [better]


def test_undo_goes_back_act_by_act_though_the_clock_stands_still(store: Store, study: Study, ann: Annotator) -> None:
    for number in range(5):
        add_comparison(store, study, f"another question {number} {number} {number}?")
    made = [rank(store, study, ann) for _ in range(8)]
    assert [ranking.id for ranking in store.rankings.history(ann)] == made[::-1]
    assert [ranking.id for ranking in store.rankings.current()] == made
    undone = [store.rankings.undo(ann, f"u{number}", SECONDS)[0].id for number in range(8)]
    assert undone == made[::-1]
    with pytest.raises(NothingToUndo):
        store.rankings.undo(ann, "u8", SECONDS)
    assert store.db.table("rankings").count == 16
    assert store.queue.waiting(study) == 7


def test_an_undone_skip_can_be_ranked(store: Store, ann: Annotator, lease: Lease) -> None:
    store.rankings.skip(ann, answer_of(lease, []))
    undone, again = store.rankings.undo(ann, "u", SECONDS)
    assert undone.kind == "skip"
    store.rankings.submit(ann, answer_of(again))
    assert store.counts.all()["skips"] == 0


def test_undo_is_for_ones_own_acts_and_for_one_nonce(store: Store, study: Study, ann: Annotator) -> None:
    rank(store, study, ann)
    with pytest.raises(NothingToUndo):
        store.rankings.undo(add_annotator(store, "bea"), "u", SECONDS)
    store.rankings.undo(ann, "u", SECONDS)
    with pytest.raises(NonceUsed):
        store.rankings.undo(ann, "u", SECONDS)


def test_rankings_of_simulated_annotators_are_left_out_unless_asked_for(
    store: Store, study: Study, ann: Annotator
) -> None:
    human = rank(store, study, ann)
    robot = rank(store, study, add_annotator(store, "robot", simulated=True))
    assert [ranking.id for ranking in store.rankings.current()] == [human]
    assert [ranking.id for ranking in store.rankings.current(study.id, "train", simulated=True)] == [human, robot]


def test_progress(store: Store, study: Study, ann: Annotator, clock: Clock) -> None:
    rank(store, study, ann)
    clock.now += 10
    rank(store, study, add_annotator(store, "bea"))
    expected = {"mine": 1, "mine_today": 0, "team": 2, "waiting": 1}
    assert store.rankings.progress(ann, [study], clock.now) == expected
    assert store.rankings.progress(ann, [study], clock.now - 10)["mine_today"] == 1
    assert len(store.rankings.history(ann, limit=0)) == 0


def test_an_imported_ranking_is_stored_once_and_a_later_one_replaces_it(store: Store, study: Study) -> None:
    """One voice an annotator: an edited file must not count both its versions."""
    comparison, ann = add_comparison(store, study), add_annotator(store)
    one, two = [[item] for item in comparison.items], [comparison.items]
    added = [store.rankings.add_imported(ann, comparison, tiers) for tiers in (one, one, two, two, one)]
    assert added == [(1, 0), (0, 0), (1, 1), (0, 0), (0, 0)]
    assert [ranking.tiers for ranking in store.rankings.current()] == [two]
    with pytest.raises(BadTiers):
        store.rankings.add_imported(ann, comparison, [])
