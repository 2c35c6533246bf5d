"""A whole study, simulated: six annotators who come and go rank all of it by the rules of assignment."""

import secrets
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from labeler.assignment import arrange, choose
from preferences.plan import Plan, is_repeated, labels_wanted
from preferences.records import Annotator, Comparison, Lease, Study
from preferences.store import Store
from tests.preferences.make import Clock, add_annotator, add_comparison, add_prompt, answer_of

PLAN = {
    "shared": 0.3, "labels_shared": 2, "labels_heldout": 3, "repeats": 0.4, "repeat_gap": 2, "qualification": 2,
    "gold": 0.2, "gold_pass": 0.5,
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """With the same ids each time: which comparisons are shared, and who gets which, is drawn from them."""
    draw = Random(7)
    monkeypatch.setattr(secrets, "token_hex", lambda size: draw.randbytes(size).hex())
    return Store(tmp_path / "simulated.db", Clock())


def next_task(store: Store, study: Study, annotator: Annotator) -> Lease | None:
    return store.queue.take(
        study, annotator, lambda offer: choose(offer, annotator.id),
        lambda made: arrange(made.items, annotator.id, made.id), 60.0,
    )  # fmt: skip


def fill(store: Store, study: Study) -> tuple[list[Comparison], list[Comparison]]:
    """(40 comparisons, a fifth of them held out; 5 gold ones)."""
    plain = []
    for number in range(40):
        text = f"question {number} {number} {number}?"
        add_prompt(store, text, heldout=float(number % 5 == 0))
        plain.append(add_comparison(store, study, text, ("a", "b", "c")))
    golds = [add_comparison(store, study, f"gold {number} {number} {number}", ("a", "b", "c")) for number in range(5)]
    for gold in golds:
        store.golds.add(gold, [[item] for item in gold.items], "a, b, c is the alphabet's order")
    return plain, golds


def test_a_study_is_ranked_as_its_plan_says(store: Store) -> None:
    study = store.studies.create("s", k=3, plan=PLAN)
    plan = Plan.of(study.plan)
    plain, golds = fill(store, study)
    crowd = [add_annotator(store, f"a{number}") for number in range(6)]
    random, done = Random(7), {person.id: [] for person in crowd}
    idle = 0
    while idle < 200:
        person = random.choice(crowd)
        lease = next_task(store, study, person)
        if lease is None:
            idle += 1
            continue
        done[person.id].append(lease)
        texts = {ident: response.text for ident, response in store.responses.get_many(lease.order).items()}
        order = sorted(lease.order, key=lambda ident: texts[ident])
        if lease.purpose != "gold" and random.random() < 0.3:  # they do not always agree
            random.shuffle(order)
        store.rankings.submit(person, answer_of(lease, [[item] for item in order]))

    # 1. Each comparison has the labels it wants, one more where the first ones split; gold has none.
    split_of = {prompt.id: prompt.split for prompt in store.prompts.all()}
    labels = Counter(ranking.comparison for ranking in store.rankings.current(study.id))
    extra = {row["id"]: row["extra"] for row in store.queue.rows("SELECT id, extra FROM comparisons")}
    for comparison in plain:
        wanted = labels_wanted(plan, comparison.id, split_of[comparison.prompt])
        assert labels[comparison.id] == wanted + extra[comparison.id]
    assert not set(labels) & {gold.id for gold in golds} and store.queue.waiting(study) == 0
    assert 0 < sum(extra.values()) < 12

    for leases in done.values():
        purposes = [lease.purpose for lease in leases]
        # 2. Two gold ones first, the other three later, at their share of the tasks.
        assert purposes[:2] == ["gold", "gold"] and purposes.count("gold") <= 5
        # 3. Nobody has a comparison twice, but as a repeat: reversed, and not soon.
        places: dict[str, list[int]] = {}
        for place, lease in enumerate(leases):
            places.setdefault(lease.comparison, []).append(place)
        for ident, (first, *again) in places.items():
            assert [leases[place].purpose for place in again] in ([], ["repeat"])
            for place in again:
                assert leases[place].order == leases[first].order[::-1] and place - first > plan.repeat_gap
                assert is_repeated(plan, ident)
    repeats = sum(lease.purpose == "repeat" for leases in done.values() for lease in leases)
    assert repeats == len(store.rankings.current(study.id, purposes=["repeat"])) > 3
    # 4. The work is spread: nobody does it alone.
    counts = [len(leases) for leases in done.values()]
    assert max(counts) < 3 * min(counts)


def test_the_same_arguments_give_the_same_task(store: Store) -> None:
    study = store.studies.create("s", k=3, plan=PLAN)
    fill(store, study)
    ann = add_annotator(store, "ann")
    store.golds.decide(study, ann, True)
    offer = store.queue.offer(study, ann)
    assert len({choose(offer, ann.id) for _ in range(5)}) == 1
    gold = sum(
        pick.purpose == "gold"
        for done in range(1000)
        if (pick := choose(type(offer)(offer.candidates, [], offer.golds, False, 0.2, done), ann.id))
    )
    assert 150 < gold < 250
