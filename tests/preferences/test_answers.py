"""What an answer may say beside the order, checked against its comparison and study."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from preferences.answers import FLAGS, mode_of, options_of
from preferences.errors import BadAnswer, BadTiers, NotLeased, UnknownName
from preferences.migrations import migrations
from preferences.rankings import ALL_BAD, vote_shares, votes_of
from preferences.records import Annotator, Comparison, Lease, Pick, Ranking, Study
from preferences.store import Store
from preferences.tables.rankings import Answer
from tests.conftest import PLAIN
from tests.preferences.make import SECONDS, Clock, add_annotator, add_comparison, answer_of, take


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ann(store: Store) -> Annotator:
    return add_annotator(store, "ann")


def study_of(store: Store, mode: str = "ranking", **plan: Any) -> Study:
    """A study of that mode and plan."""
    made = store.studies.create("main", k=4, plan=PLAIN)
    with store.write() as db:
        db.execute(
            "UPDATE studies SET mode = ?, plan = ? WHERE id = ?", [mode, json.dumps({**made.plan, **plan}), made.id]
        )
    return store.studies.get("main")


def leased(store: Store, study: Study, ann: Annotator, texts: str = "abcd") -> Lease:
    """A comparison of those texts in ann's hands."""
    add_comparison(store, study, f"Why {texts}?", list(texts))
    made = take(store, study, ann)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("study_mode", "k", "asked"),
    [
        ("ranking", 2, "ranking"), ("ranking", 9, "ranking"), ("best-worst", 5, "ranking"), ("best-worst", 6, "best-worst"),
        ("pairwise", 2, "pairwise"), ("pairwise", 3, "ranking"),
    ],
)  # fmt: skip
def test_mode(study_mode: str, k: int, asked: str) -> None:
    assert mode_of(study_mode, k) == asked


def test_options_have_the_usual_flags_unless_the_study_chose() -> None:
    assert options_of({}) == {"flags": list(FLAGS), "strengths": False, "rating": False}
    assert options_of({"flags": None})["flags"] == list(FLAGS)
    assert options_of({"flags": [], "strengths": True, "rating": True}) == {
        "flags": [], "strengths": True, "rating": True,
    }  # fmt: skip


def test_everything_that_is_said_is_kept(store: Store, ann: Annotator) -> None:
    lease = leased(store, study_of(store, strengths=True, rating=True), ann)
    a, b, c, d = lease.order
    answer = replace(
        answer_of(lease, [[b], [a, c], [d]]), strengths=[4, 0], flags={a: ["wrong_fact", "harmful"]}, ratings={a: 1, b: 7},
        reason="b is true", rewrite="B, better", rewrite_of=b,
    )  # fmt: skip
    saved = store.rankings.submit(ann, answer)
    assert store.rankings.current() == [saved]
    assert (saved.strengths, saved.flags, saved.ratings) == ([4, 0], {a: ["wrong_fact", "harmful"]}, {a: 1, b: 7})
    assert (saved.reason, saved.rewrite, saved.rewrite_of, saved.mode) == ("b is true", "B, better", b, "ranking")


WRONG: dict[str, dict[str, Any]] = {
    "a flag that the study has not": {"flags": {"a": ["rude"]}},
    "a flag twice": {"flags": {"a": ["harmful", "harmful"]}},
    "a flag on another response": {"flags": {"x": ["harmful"]}},
    "the mark of another answer as a flag": {"flags": {ALL_BAD: ["harmful"]}},
    "a rating of another response": {"ratings": {"x": 3}},
    "a rating of 0": {"ratings": {"a": 0}},
    "a rating of 8": {"ratings": {"a": 8}},
    "a strength of 5": {"strengths": [5, 1, 1]},
    "a negative strength": {"strengths": [-1, 1, 1]},
    "too few strengths": {"strengths": [1, 1]},
    "a rewrite of what is not the best": {"rewrite": "better", "rewrite_of": "b"},
    "a rewrite of nothing": {"rewrite": "better"},
    "a rewrite of another response": {"rewrite": "better", "rewrite_of": "x"},
    "an empty rewrite": {"rewrite": " \n", "rewrite_of": "a"},
    "best and worst where all are asked for": {"mode": "best-worst"},
    "a pair where all are asked for": {"mode": "pairwise"},
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(store: Store, ann: Annotator, what: str) -> None:
    lease = leased(store, study_of(store, strengths=True, rating=True), ann)
    letters = dict(zip("abcd", lease.order, strict=True))
    changes = {
        name: {letters.get(key, key): said for key, said in value.items()} if isinstance(value, dict) else value
        for name, value in WRONG[what].items()
    }
    if "rewrite_of" in changes:
        changes["rewrite_of"] = letters.get(changes["rewrite_of"], changes["rewrite_of"])
    answer = replace(answer_of(lease), **changes)
    with pytest.raises(BadAnswer) as caught:
        store.rankings.submit(ann, answer)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert store.db.table("rankings").count == 0
    assert store.queue.held(ann) == lease


@pytest.mark.parametrize("changes", [{"strengths": [1, 1, 1]}, {"ratings": True}])
def test_what_the_study_does_not_ask_is_refused(store: Store, ann: Annotator, changes: dict[str, Any]) -> None:
    lease = leased(store, study_of(store), ann)
    if "ratings" in changes:
        changes = {"ratings": {lease.order[0]: 3}}
    with pytest.raises(BadAnswer, match="does not ask"):
        store.rankings.submit(ann, replace(answer_of(lease), **changes))


def test_all_bad_is_no_tie_and_counts_as_a_label(store: Store, ann: Annotator) -> None:
    study = study_of(store, labels_train=2)
    lease = leased(store, study, ann)
    saved = store.rankings.submit(ann, replace(answer_of(lease, []), all_bad=True, flags={lease.order[0]: ["harmful"]}))
    assert saved.kind == "ranking"
    assert (sorted(saved.tiers[0]), saved.flags[lease.order[0]]) == (sorted(lease.order), ["harmful"])
    assert votes_of(saved) == []
    tied = store.rankings.submit(
        add_annotator(store, "bea"), replace(answer_of(again(store, lease, "bea"), [lease.order]))
    )
    assert ALL_BAD in saved.flags and ALL_BAD not in tied.flags
    assert len(votes_of(tied)) == 6
    assert store.queue.waiting(study) == 0


def again(store: Store, lease: Lease, name: str) -> Lease:
    """The same comparison in another annotator's hands."""
    return store.queue.lease(lease.comparison, store.annotators.get(name), lease.order, SECONDS)


def test_best_and_worst_say_nothing_of_those_between(store: Store, ann: Annotator) -> None:
    lease = leased(store, study_of(store, "best-worst"), ann, "abcdef")
    best, *middle, worst = lease.order
    saved = store.rankings.submit(ann, replace(answer_of(lease, [[best], middle, [worst]]), mode="best-worst"))
    assert saved.mode == "best-worst"
    shares = vote_shares([votes_of(saved)])
    assert len(shares) == 1 + 2 * len(middle)
    assert not [pair for pair in shares if set(pair) <= set(middle)]


@pytest.mark.parametrize("tiers", ["two best", "two tiers", "four tiers"])
def test_best_and_worst_are_one_each(store: Store, ann: Annotator, tiers: str) -> None:
    lease = leased(store, study_of(store, "best-worst"), ann, "abcdef")
    a, b, c, d, e, f = lease.order
    made = {
        "two best": [[a, b], [c, d, e], [f]],
        "two tiers": [[a], [b, c, d, e, f]],
        "four tiers": [[a], [b], [c, d, e], [f]],
    }
    with pytest.raises(BadAnswer, match="one response each"):
        store.rankings.submit(ann, replace(answer_of(lease, made[tiers]), mode="best-worst"))
    assert store.rankings.submit(ann, answer_of(lease, made[tiers])).mode == "ranking"


@pytest.mark.parametrize(("tiers", "strengths", "fits"), [
    ("ab", [3], True), ("ba", [1], True), ("tie", [], True), ("ab", [], False), ("ab", [0], False), ("ab", [5], False),
    ("tie", [2], False), ("ab", [1, 1], False),
])  # fmt: skip
def test_a_pair_has_a_strength_or_is_a_tie(
    store: Store, ann: Annotator, tiers: str, strengths: list[int], fits: bool
) -> None:
    lease = leased(store, study_of(store, "pairwise"), ann, "ab")
    first, second = lease.order
    made = {"ab": [[first], [second]], "ba": [[second], [first]], "tie": [[first, second]]}[tiers]
    answer = replace(answer_of(lease, made), strengths=strengths)
    if fits:
        assert store.rankings.submit(ann, answer).mode == "pairwise"
    else:
        with pytest.raises(BadAnswer):
            store.rankings.submit(ann, answer)


def test_a_skip_keeps_its_verdict_and_flags(store: Store, ann: Annotator) -> None:
    lease = leased(store, study_of(store), ann)
    answer = Answer(
        lease.comparison, lease.id, "n", verdict="cannot_rank", reason="nonsense", flags={lease.order[0]: ["off_topic"]}
    )
    saved = store.rankings.skip(ann, answer)
    assert (saved.kind, saved.verdict, saved.tiers) == ("skip", "cannot_rank", [])
    assert saved.flags == {lease.order[0]: ["off_topic"]}


# Opened again.


def test_an_edit_supersedes_and_until_then_the_old_answer_stands(store: Store, ann: Annotator) -> None:
    study = study_of(store)
    lease = leased(store, study, ann)
    a, b, c, d = lease.order
    answer = replace(
        answer_of(lease, [[a], [b, c], [d]]), reason="first", rewrite="A!", rewrite_of=a, flags={d: ["harmful"]}
    )
    old = store.rankings.submit(ann, answer)
    other = leased(store, study, ann, "efgh")
    opened = store.rankings.reopen(ann, old.id, SECONDS)
    assert (opened.comparison, opened.order) == (lease.comparison, lease.order)
    assert store.rankings.current() == [old]
    assert store.queue.held(ann) == opened
    draft = store.queue.draft(lease.comparison, ann)
    assert draft is not None and draft.body == {
        "tiers": old.tiers, "flags": {d: ["harmful"]}, "reason": "first", "rewrite": "A!", "rewrite_of": a,
    }  # fmt: skip
    with pytest.raises(NotLeased):
        store.rankings.submit(ann, answer_of(other))
    new = store.rankings.submit(ann, answer_of(opened, [[d], [c], [b], [a]]))
    assert new.supersedes == old.id
    assert store.rankings.current() == store.rankings.history(ann) == [new]
    assert store.db.table("rankings").count == 2
    with pytest.raises(UnknownName):
        store.rankings.reopen(ann, old.id, SECONDS)
    undone, _ = store.rankings.undo(ann, "u", SECONDS)
    assert undone == new and store.rankings.current() == []


def test_only_ones_own_answers_can_be_opened(store: Store, ann: Annotator) -> None:
    saved = store.rankings.submit(ann, answer_of(leased(store, study_of(store), ann)))
    with pytest.raises(UnknownName):
        store.rankings.reopen(add_annotator(store, "bea"), saved.id, SECONDS)


def test_what_was_begun_comes_back_first(store: Store, ann: Annotator) -> None:
    """An undo gives back what one was working on; its draft brings it back before anything else."""
    study = study_of(store)
    first = leased(store, study, ann)
    store.rankings.submit(ann, answer_of(first))
    for texts in ("efgh", "ijkl", "mnop"):
        add_comparison(store, study, f"Why {texts}?", list(texts))
    begun = store.queue.lease(store.comparisons.all()[3].id, ann, store.comparisons.all()[3].items, SECONDS)
    store.queue.save_draft(begun.comparison, ann, {"tiers": [[begun.order[0]]]})
    _, lease = store.rankings.undo(ann, "u", SECONDS)
    store.rankings.submit(ann, answer_of(lease))
    following = take(store, study, ann)
    assert following is not None and following.comparison == begun.comparison


# Leases.


def take_ahead(store: Store, study: Study, annotator: Annotator, spare: int = 0) -> Lease | None:
    return store.queue.take_ahead(
        [study],
        annotator,
        lambda offer: Pick(offer.candidates[0].comparison),
        lambda comparison: comparison.items,
        SECONDS,
        spare,
    )


def test_the_next_one_is_leased_ahead_and_becomes_the_first(store: Store, ann: Annotator) -> None:
    study = study_of(store)
    assert take_ahead(store, study, ann) is None
    lease = leased(store, study, ann)
    assert take_ahead(store, study, ann) is None
    add_comparison(store, study, "Why not?", list("xy"))
    assert take_ahead(store, study, ann, spare=1) is None
    ahead = take_ahead(store, study, ann)
    assert ahead is not None and ahead.comparison != lease.comparison
    assert take_ahead(store, study, ann) == ahead
    assert store.queue.held(ann) == lease
    assert take(store, study, add_annotator(store, "bea")) is None
    store.rankings.submit(ann, answer_of(lease))
    following = take(store, study, ann)
    assert following is not None and following.id == ahead.id


def test_a_lease_that_ran_out_can_be_had_again_by_whose_it_was(store: Store, ann: Annotator, clock: Clock) -> None:
    lease = leased(store, study_of(store), ann)
    clock.now += SECONDS + 1
    with pytest.raises(NotLeased):
        store.rankings.submit(ann, answer_of(lease))
    for annotator, comparison in ((add_annotator(store, "bea"), lease.comparison), (ann, "another")):
        with pytest.raises(NotLeased):
            store.queue.revive(lease.id, annotator, comparison, SECONDS)
    revived = store.queue.revive(lease.id, ann, lease.comparison, SECONDS)
    assert (revived.id, revived.expires) == (lease.id, clock.now + SECONDS)
    store.rankings.submit(ann, answer_of(revived))
    with pytest.raises(NotLeased):
        store.queue.revive(lease.id, ann, lease.comparison, SECONDS)


def test_an_old_lease_is_not_had_again_after_another_answer(store: Store, ann: Annotator, clock: Clock) -> None:
    study = study_of(store)
    old = leased(store, study, ann)
    clock.now += SECONDS + 1
    new = take(store, study, ann)
    assert new is not None and new.comparison == old.comparison
    assert store.queue.revive(old.id, ann, old.comparison, SECONDS).id == new.id
    store.rankings.submit(ann, answer_of(new))
    with pytest.raises(NotLeased, match="answered this comparison meanwhile"):
        store.queue.revive(old.id, ann, old.comparison, SECONDS)


# Drafts and the disk.


def test_only_what_is_not_durable_skips_the_disk(store: Store, ann: Annotator) -> None:
    def synchronous() -> int:
        return int(store.db.conn.execute("PRAGMA synchronous").fetchone()[0])

    lease = leased(store, study_of(store), ann)
    with store.write():
        assert synchronous() == 2
    with store.write(durable=False):
        assert synchronous() == 1
    assert synchronous() == 2
    store.queue.save_draft(lease.comparison, ann, {"tiers": []})
    assert synchronous() == 2
    with pytest.raises(ZeroDivisionError), store.write(durable=False):
        raise ZeroDivisionError
    assert synchronous() == 2


def test_a_lease_waits_for_the_disk_only_with_what_it_comes_after(store: Store, ann: Annotator) -> None:
    study, seen = study_of(store), []
    add_comparison(store, study)

    def arrange(comparison: Comparison) -> list[str]:
        seen.append(store.db.conn.execute("PRAGMA synchronous").fetchone()[0])
        return comparison.items

    def take_first() -> Lease | None:
        return store.queue.take(study, ann, lambda offer: Pick(offer.candidates[0].comparison), arrange, SECONDS)

    first = take_first()
    assert first is not None
    with store.write():
        store.queue.release(first)
        assert take_first() is not None
    assert seen == [1, 2]


# Migration.


def test_a_database_of_the_version_before_keeps_its_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = list(migrations._migrations)
    number = next(i for i, one in enumerate(everything) if one.name == "m004_richer_answers")
    path = tmp_path / "old.db"
    monkeypatch.setattr(migrations, "_migrations", everything[:number])
    with closing(Database(path)) as old:
        migrations.apply(old)
        for sql in OLD_ROWS:
            old.execute(sql)
        old.conn.commit()
    monkeypatch.undo()
    store = Store(path)
    (ranking,) = store.rankings.current()
    assert isinstance(ranking, Ranking)
    assert (ranking.id, ranking.tiers, ranking.mode, ranking.verdict) == ("rank", [["r1"], ["r2"]], "ranking", "")
    assert (ranking.ratings, ranking.rewrite_of) == ({}, None)
    store.close()


OLD_ROWS = (
    "INSERT INTO studies VALUES ('s', 'main', 2, 'ranking', '{}', 'active', 1)",
    "INSERT INTO prompts VALUES ('p', '[]', 'c', 'train', '', '', '[]', 1)",
    "INSERT INTO policies VALUES ('y', 'sft', 'sft', '', 'none', NULL, NULL, '', '{}', '', 1)",
    "INSERT INTO texts VALUES ('t1', 'one'), ('t2', 'two')",
    "INSERT INTO responses VALUES ('r1', 'p', 'y', 't1', 1, 0, 1, 1, 9, 'stop', 1, '', 1),"
    " ('r2', 'p', 'y', 't2', 1, 1, 1, 1, 9, 'stop', 1, '', 1)",
    "INSERT INTO comparisons (id, study, prompt, origin, priority, created) VALUES ('c', 's', 'p', 'sampled', 0, 1)",
    "INSERT INTO comparison_responses VALUES ('c', 0, 'r1', 'r1'), ('c', 1, 'r2', 'r2')",
    "INSERT INTO annotators (id, name, role, password_hash, simulated, active, settings, created)"
    " VALUES ('a', 'ann', 'annotator', '', 0, 1, '{}', 1)",
    "INSERT INTO rankings (id, comparison, annotator, kind, tiers, shown, nonce, active_ms, strengths, flags, reason,"
    " rewrite, created) VALUES ('rank', 'c', 'a', 'ranking', '[[\"r1\"], [\"r2\"]]', '[\"r2\", \"r1\"]', 'n', 5, '[]',"
    " '{}', '', '', 2)",
)


def test_an_incomplete_board_is_refused(store: Store, ann: Annotator) -> None:
    lease = leased(store, study_of(store), ann)
    for tiers in ([], [lease.order[:1]], [lease.order[:3]]):
        with pytest.raises(BadTiers):
            store.rankings.submit(ann, answer_of(lease, tiers))
