"""The annotators' queue: candidates, leases, drafts."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from preferences.errors import NotLeased, UnknownName
from preferences.records import Annotator, Response, Study
from preferences.store import Store
from tests.conftest import PLAIN
from tests.preferences.make import (
    SECONDS,
    Clock,
    add_annotator,
    add_comparison,
    add_policy,
    add_prompt,
    answer_of,
    rank,
    take,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ann(store: Store) -> Annotator:
    return add_annotator(store, "ann")


@pytest.fixture
def bea(store: Store) -> Annotator:
    return add_annotator(store, "bea")


def test_a_lease_keeps_the_order_shown_and_is_renewed_not_doubled(
    store: Store, study: Study, ann: Annotator, clock: Clock
) -> None:
    comparison = add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None and lease.order == comparison.items[::-1]
    clock.now += 10
    again = take(store, study, ann)
    assert again is not None and (again.id, again.expires) == (lease.id, clock.now + SECONDS)
    assert store.queue.held(ann) == again
    assert store.queue.number("SELECT count(*) FROM leases") == 1


def test_nothing_waits_in_an_empty_study(store: Store, study: Study, ann: Annotator) -> None:
    assert take(store, study, ann) is None
    assert store.queue.waiting(study) == 0


def test_a_leased_comparison_is_nobody_elses_until_it_is_released_or_expires(
    store: Store, study: Study, ann: Annotator, bea: Annotator, clock: Clock
) -> None:
    add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None and take(store, study, bea) is None
    assert store.queue.waiting(study) == 0
    store.queue.release(lease)
    other = take(store, study, bea)
    assert other is not None and other.comparison == lease.comparison
    clock.now += SECONDS
    assert store.queue.waiting(study) == 1
    assert take(store, study, ann) is not None


def test_each_split_has_its_own_number_of_labels(store: Store, ann: Annotator, bea: Annotator) -> None:
    study = store.studies.create("s", plan={"labels_train": 1, "labels_heldout": 2, "shared": 0})
    add_comparison(store, study, "Train on this.")
    heldout = add_prompt(store, "Hold this out.", heldout=1.0)
    add_comparison(store, study, "Hold this out.")
    for annotator in (ann, bea):
        while candidates := store.queue.candidates(study, annotator):
            rank(store, study, annotator)
            assert candidates
    ranked = store.rankings.current(study.id, "heldout")
    assert len(ranked) == 2
    assert {store.comparisons.get(ranking.comparison).prompt for ranking in ranked} == {heldout.id}
    assert len(store.rankings.current(study.id, "train")) == 1


def test_candidates_are_urgent_first_then_oldest(store: Store, study: Study, clock: Clock) -> None:
    policy, made = add_policy(store, "sft"), []
    for number, priority in enumerate((0.0, 2.0, 0.0, 1.0)):
        prompt = add_prompt(store, f"question {number} of this kind")
        responses = [Response.make(prompt.id, policy.id, text, 0, i) for i, text in enumerate("ab")]
        store.responses.add(responses)
        comparison = store.comparisons.add(study, prompt.id, responses, priority=priority)
        assert comparison is not None
        made.append(comparison.id)
        clock.now += 1
    candidates = store.queue.candidates(study)
    assert [candidate.comparison for candidate in candidates] == [made[1], made[3], made[0], made[2]]
    assert (candidates[0].labels, candidates[0].leases, candidates[0].split) == (0, 0, "train")
    assert len(store.queue.candidates(study, limit=2)) == 2


def test_nobody_ranks_a_comparison_twice(store: Store, ann: Annotator) -> None:
    study = store.studies.create("s", plan={**PLAIN, "labels_train": 3})
    add_comparison(store, study)
    rank(store, study, ann)
    assert take(store, study, ann) is None
    assert store.queue.waiting(study) == 1


def test_a_skipped_comparison_goes_to_another(store: Store, study: Study, ann: Annotator, bea: Annotator) -> None:
    comparison = add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None
    store.rankings.skip(ann, answer_of(lease, []))
    assert take(store, study, ann) is None
    other = take(store, study, bea)
    assert other is not None and other.comparison == comparison.id


def test_a_study_sees_only_its_own_comparisons(store: Store, study: Study, ann: Annotator) -> None:
    add_comparison(store, store.studies.create("other"))
    assert take(store, study, ann) is None


@pytest.mark.parametrize("wanted", [1, 3])
def test_eight_threads_never_exceed_the_overlap(store: Store, wanted: int) -> None:
    """Count and lease are one step: two who ask at once must not both get the last place."""
    study = store.studies.create("s", plan={**PLAIN, "labels_train": wanted})
    comparisons = [add_comparison(store, study, f"question {n} {n} {n}?").id for n in range(12)]
    people = [add_annotator(store, f"a{n}") for n in range(8)]

    def work(annotator: Annotator) -> None:
        for turn in range(100):
            lease = take(store, study, annotator)
            if lease is None:
                break
            over = store.queue.row(
                "SELECT c.id FROM comparisons AS c WHERE ? <"
                " (SELECT count(*) FROM current_rankings WHERE comparison = c.id) +"
                " (SELECT count(*) FROM leases WHERE comparison = c.id AND released IS NULL)",
                wanted,
            )
            assert over is None
            if turn % 5 == 4:
                store.queue.release(lease)
            else:
                store.rankings.submit(annotator, answer_of(lease))
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, people))
    for person in people:  # a release in another's last moment can leave places free
        work(person)
    labels = [ranking.comparison for ranking in store.rankings.current()]
    assert sorted(labels) == sorted(comparisons * wanted)


def test_check_names_what_is_wrong(store: Store, study: Study, ann: Annotator, bea: Annotator, clock: Clock) -> None:
    comparison = add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None
    assert store.queue.check(lease.id, ann.id, comparison.id) == lease
    for wrong in (
        ("nope", ann.id, comparison.id),
        (lease.id, bea.id, comparison.id),
        (lease.id, ann.id, "other comparison"),
    ):
        with pytest.raises(NotLeased, match="not assigned to you"):
            store.queue.check(*wrong)
    clock.now += SECONDS
    with pytest.raises(NotLeased, match="ran out"):
        store.queue.check(lease.id, ann.id, comparison.id)


def test_a_lease_that_ran_out_cannot_be_renewed(store: Store, study: Study, ann: Annotator) -> None:
    add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None
    store.queue.release(lease)
    with pytest.raises(NotLeased):
        store.queue.renew(lease, SECONDS)


def test_the_newest_draft_is_kept_until_the_answer(store: Store, study: Study, ann: Annotator, bea: Annotator) -> None:
    add_comparison(store, study)
    lease = take(store, study, ann)
    assert lease is not None
    assert store.queue.draft(lease.comparison, ann) is None
    for tiers in ([], [lease.order[:1]]):
        store.queue.save_draft(lease.comparison, ann, {"tiers": tiers})
    draft = store.queue.draft(lease.comparison, ann)
    assert draft is not None and draft.body == {"tiers": [lease.order[:1]]}
    assert store.queue.draft(lease.comparison, bea) is None
    store.rankings.submit(ann, answer_of(lease))
    assert store.queue.draft(lease.comparison, ann) is None


def test_equal_texts_are_shown_once_and_credited_to_each_policy(store: Store, study: Study) -> None:
    prompt, sft, ppo = add_prompt(store, "hi"), add_policy(store, "sft"), add_policy(store, "ppo")
    responses = [
        Response.make(prompt.id, policy.id, text, 0, index)
        for policy, text, index in ((sft, "yes", 0), (ppo, "no", 0), (ppo, "yes", 1), (sft, "no way", 1))
    ]
    store.responses.add(responses)
    made = store.comparisons.add(study, prompt.id, responses)
    assert made is not None
    ids = [response.id for response in responses]
    assert made.items == [ids[0], ids[1], ids[3]]
    assert made.same == {ids[0]: ids[0], ids[1]: ids[1], ids[2]: ids[0], ids[3]: ids[3]}
    credited = store.responses.get_many(other for other, shown in made.same.items() if shown == ids[0])
    assert {response.policy for response in credited.values()} == {"sft", "ppo"}
    assert store.comparisons.add(study, prompt.id, responses[::-1]) == made
    assert store.comparisons.all() == [made]


def test_fewer_than_two_texts_are_no_comparison(store: Store, study: Study) -> None:
    prompt, policy = add_prompt(store, "hi"), add_policy(store, "sft")
    responses = [Response.make(prompt.id, policy.id, "same", 0, index) for index in range(4)]
    store.responses.add(responses)
    assert store.comparisons.add(study, prompt.id, responses) is None
    assert store.comparisons.all() == []


def test_responses_to_another_prompt_are_a_mistake_of_the_programmer(store: Store, study: Study) -> None:
    prompt, policy = add_prompt(store, "hi"), add_policy(store, "sft")
    responses = [Response.make(prompt.id, policy.id, text, 0, 0) for text in "ab"]
    with pytest.raises(AssertionError):
        store.comparisons.add(study, "another prompt", responses)
    with pytest.raises(UnknownName):
        store.comparisons.get("nope")


def test_comparisons_by_study_and_split(store: Store, study: Study) -> None:
    other = store.studies.create("other")
    add_prompt(store, "held out question", heldout=1.0)
    one, two = add_comparison(store, study, "question in training"), add_comparison(store, other, "held out question")
    assert store.comparisons.all() == [one, two]
    assert store.comparisons.all(study.id) == store.comparisons.all(split="train") == [one]
    assert store.comparisons.all(other.id, "train") == []
