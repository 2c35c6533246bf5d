"""Who annotators are: pseudonyms outside, erasure, retention, and the log of who did what."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from labeler.care import hours_csv, safe_cell
from labeler.retention import retaining
from preferences.cli import note_taken
from preferences.exchange.exporting import FORMATS, export
from preferences.exchange.views import Source
from preferences.records import Annotator, Comparison, Study
from preferences.store import Store
from preferences.tables.erasures import CALLED_OFF, DUE
from tests.labeler.conftest import PASSWORD, Clock, add_account, add_comparison, add_study
from tests.labeler.test_health import no_file_grows
from tests.labeler.test_main import Run, refused, run  # noqa: F401
from tests.labeler.test_reports import add_run, report
from tests.waiting import until

pytestmark = [pytest.mark.security, pytest.mark.smoke]
NAME = "Magdalena Quittenbaum"
SAID = "my telephone is 0815-4711"
DAY = 24 * 3600.0


@pytest.fixture
def person(store: Store) -> Annotator:
    """Somebody who has left traces everywhere."""
    made = add_account(store, NAME)
    study = add_study(store)
    store.studies.set_annotators(study, [made])
    store.studies.set_consent(study, "We keep what you rank.")
    consent = store.studies.consent(study)
    assert consent
    store.annotators.give_consent(made, consent)
    store.annotators.change_settings(made, {"avoid": [SAID]})
    store.annotators.set_languages(made, ["de"])
    store.annotators.open_session(made, "hash of a token", 3600)
    first, second = (add_comparison(store, study, f"Question {n}?", [f"{n} A", f"{n} B"]) for n in range(2))
    for comparison in (first, second, first):  # the third replaces the first
        act(store, made, comparison)
    store.rankings.undo(made, "nonce of an undo", 60)
    store.remarks.add(made, study, SAID, "nonce of a remark")
    store.queue.save_draft(second.id, made, {"reason": SAID})
    return made


def act(store: Store, person: Annotator, comparison: Comparison) -> None:
    """They rank it, in another order each time."""
    count = store.rankings.number("SELECT count(*) FROM rankings WHERE annotator = ?", person.id)
    items = comparison.items[:: 1 if count % 2 else -1]
    store.rankings.add_imported(
        person, comparison, [[item] for item in items], reason=f"because {len(person.name)} {count}"
    )


def bytes_of(store: Store) -> bytes:
    """All that the database's files hold."""
    return b"".join(path.read_bytes() for path in store.path.parent.glob(f"{store.path.name}*"))


def ranked(store: Store) -> int:
    return int(store.db["rankings"].count)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_export_names_anybody(store: Store, person: Annotator, tmp_path: Path, name: str) -> None:
    study = store.studies.default()
    other = add_account(store, "Balthasar Nebelkrähe")
    for comparison in store.comparisons.get_many([row["id"] for row in store.db["comparisons"].rows]):
        best = comparison.items[0]
        tiers = [[item] for item in comparison.items]
        store.rankings.add_imported(other, comparison, tiers, rewrite="Better.", rewrite_of=best, strengths=[2])
    out, card = tmp_path / "out.jsonl", tmp_path / "card.md"
    export(Source.of(store, study, None), name, out, card_at=card)
    written = out.read_text(encoding="utf-8") + card.read_text(encoding="utf-8")
    for secret in (NAME, "Nebelkrähe", person.id, other.id):
        assert secret not in written
    if name == "rankings":
        assert written.count("annotator-") >= 2


def test_whoever_is_erased_is_nowhere_in_the_files_and_their_rankings_stay(
    store: Store,
    person: Annotator,
    run: Run,  # noqa: F811
) -> None:
    before, counted = ranked(store), store.rankings.current()
    tiers = [ranking.tiers for ranking in counted]
    assert NAME.encode() in bytes_of(store) and SAID.encode() in bytes_of(store)
    status, out, _ = run("people", "erase", NAME, "--json", "--db", store.path)
    assert status == 0 and json.loads(out) == {"name": f"erased-{person.id[:10]}", "kept": before, "deleted": 0}
    for trace in (NAME, NAME.lower(), SAID, "hash of a token", person.password_hash):
        assert trace.encode() not in bytes_of(store), trace
    left = store.annotators.get(person.id)
    assert (left.active, left.password_hash, left.settings, left.languages) == (False, "", {}, [])
    assert ranked(store) == before and [ranking.tiers for ranking in store.rankings.current()] == tiers
    for table in ("sessions", "remarks", "drafts", "study_annotators", "invites"):
        assert store.db[table].count == 0, table
    refused(run("people", "erase", NAME, "--db", store.path), "no account")
    newcomer = add_account(store, NAME)  # the name is free, and somebody else's from now on
    assert newcomer.id != person.id and store.rankings.history(newcomer) == []


def test_where_the_study_says_so_the_rankings_go_too_and_are_asked_for_again(store: Store, person: Annotator) -> None:
    study = store.studies.edit(store.studies.default(), plan={"on_erase": "delete"})
    other, robot = add_account(store, "other"), add_account(store, "robot", simulated=True)
    everything = store.comparisons.get_many([row["id"] for row in store.db["comparisons"].rows])
    act(store, robot, everything[0])
    waiting, before = store.queue.waiting(study), ranked(store)
    done = store.erasures.erase(person)
    assert done["kept"] == 0 and done["deleted"] == before - 1 and ranked(store) == 1
    assert b"because 20 0" not in bytes_of(store)
    assert store.queue.waiting(study) > waiting
    assert store.queue.team(study) == 1 and store.work.hours(study, 0, 1e12)[0]["annotator"] == "robot"
    assert store.db.execute("PRAGMA foreign_key_check").fetchall() == []
    act(store, other, everything[0])
    assert ranked(store) == 2


def test_each_study_says_for_itself(store: Store, person: Annotator) -> None:
    other = store.studies.create("other", 2, {"on_erase": "delete"})
    act(store, person, add_comparison(store, other, "Another question?", ["x", "y"]))
    before = ranked(store)
    assert store.erasures.erase(person) == {"name": f"erased-{person.id[:10]}", "kept": before - 1, "deleted": 1}
    assert store.rankings.current(other.id) == [] and store.rankings.current(store.studies.default().id)


def test_only_an_erasure_deletes_rankings(store: Store, person: Annotator) -> None:
    other = add_account(store, "other")
    (comparison, *_) = store.comparisons.get_many([row["id"] for row in store.db["comparisons"].rows])
    act(store, other, comparison)
    store.studies.edit(store.studies.default(), plan={"on_erase": "delete"})
    store.erasures.erase(person)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.write() as db:
        db.execute("DELETE FROM rankings")
    assert ranked(store) == 1


def test_an_erased_person_has_the_pseudonym_that_they_had(store: Store, person: Annotator) -> None:
    study = store.studies.default()
    before = Source.of(store, study, None).called[person.id]
    store.erasures.erase(person)
    assert Source.of(store, study, None).called[person.id] == before
    assert Source.of(store, study, None, names=True).called[person.id].startswith("erased-")


def test_retention_erases_those_whose_time_is_up_in_every_study(
    store: Store,
    person: Annotator,
    clock: Clock,
    run: Run,  # noqa: F811
) -> None:
    study = store.studies.edit(store.studies.default(), plan={"retention_days": 30})
    owner = add_account(store, "owner", "researcher")
    robot = add_account(store, "robot", simulated=True)
    comparisons = store.comparisons.get_many([row["id"] for row in store.db["comparisons"].rows])
    for one in (owner, robot):
        act(store, one, comparisons[0])
    add_account(store, "never ranked")
    clock.now += 30 * DAY - 1
    assert store.erasures.due() == []
    clock.now += 1
    assert [one.name for one in store.erasures.due()] == [NAME]
    store.annotators.open_session(person, "a new session", 60)
    assert store.erasures.due() == []  # they work, or at least look
    clock.now += 60
    late = store.studies.create("late", 2)
    act(store, person, add_comparison(store, late, "Another question?", ["x", "y"]))
    assert store.erasures.due() == []  # that study keeps them for ever
    store.studies.edit(late, plan={"retention_days": 60})
    clock.now += 60 * DAY
    assert store.erasures.sweep() == []  # it is noted first
    clock.now += DAY - 1
    assert store.erasures.sweep() == [] and list(store.erasures.noted()) == [person.id]
    clock.now += 1
    assert [done["kept"] for done in store.erasures.sweep()] == [ranked(store) - 2]
    assert store.erasures.sweep() == [] and store.erasures.noted() == {}
    assert run("people", "sweep", "--db", store.path)[1] == "Nobody's time is up.\n"
    store.studies.edit(study, plan={"retention_days": 0})


def test_a_clock_that_is_wrong_for_a_while_erases_nobody(store: Store, person: Annotator, clock: Clock) -> None:
    store.studies.edit(store.studies.default(), plan={"retention_days": 30, "on_erase": "delete"})
    right, before = clock.now, ranked(store)
    for wrong in (60 * DAY, 61 * DAY, 900 * DAY):  # each time that the machine starts; then its clock is put right
        clock.now = right + wrong
        assert store.erasures.sweep() == [] and list(store.erasures.noted()) == [person.id]
        clock.now = right
        assert store.erasures.sweep() == [] and store.erasures.noted() == {}
    assert ranked(store) == before and store.annotators.get(person.id).name == NAME
    clock.now = right + 60 * DAY
    store.erasures.sweep()
    clock.now = right + 31 * DAY  # they are due by the right clock as well, but were noted in the future
    assert store.erasures.sweep() == [] and store.erasures.noted() == {person.id: clock.now}
    clock.now += DAY
    assert [done["deleted"] for done in store.erasures.sweep()] == [before]


def test_who_works_again_is_no_longer_due(store: Store, person: Annotator, clock: Clock) -> None:
    store.studies.edit(store.studies.default(), plan={"retention_days": 30})
    clock.now += 30 * DAY
    store.erasures.sweep()
    act(store, person, store.comparisons.all()[0])
    clock.now += 2 * DAY
    assert store.erasures.sweep() == [] and store.erasures.noted() == {}
    assert [event.kind for event in store.events.about(person.id, DUE, CALLED_OFF)] == [DUE, CALLED_OFF]


def test_an_admin_may_erase_whoever_is_due_at_once(store: Store, clock: Clock, run: Run) -> None:  # noqa: F811
    """By the clock of the machine, for which 2001 is long ago."""
    clock.now = 1e9
    early, study = add_account(store, NAME), add_study(store)
    act(store, early, add_comparison(store, study, "Why?", ["a", "b"]))
    store.studies.edit(study, plan={"retention_days": 30})
    for _ in range(2):
        assert run("people", "sweep", "--db", store.path)[1].startswith("1 noted as due")
    status, out, _ = run("people", "sweep", "--now", "--db", store.path)
    assert (status, out.count("\n")) == (0, 1) and out.startswith(f"erased-{early.id[:10]}")


def test_a_server_sweeps_again_and_again_and_when_its_clock_is_put_right(
    store: Store, person: Annotator, clock: Clock
) -> None:
    store.studies.edit(store.studies.default(), plan={"retention_days": 30})
    right = clock.now
    clock.now = right + 60 * DAY
    with retaining(store, every=3600, look=0.01):
        until(lambda: list(store.erasures.noted()) == [person.id], 10)
        clock.now = right
        until(lambda: not store.erasures.noted(), 10)
    with retaining(store, every=0.01, look=0.01):
        clock.now = right + 31 * DAY
        until(lambda: list(store.erasures.noted()) == [person.id], 10)
        assert store.annotators.get(person.id).name == NAME
        clock.now += DAY
        until(lambda: store.annotators.get(person.id).name != NAME, 10)


@pytest.mark.parametrize(
    "plan", [{"on_erase": "forget"}, {"retention_days": -1}, {"retention_days": "x"}, {"on_erase": 1}]
)
def test_what_is_no_setting_of_privacy(store: Store, plan: dict[str, object]) -> None:
    with pytest.raises(Exception, match=next(iter(plan))):
        store.studies.create("x", 4, plan)


# ---- the log


def test_the_log_says_who_did_what(
    store: Store,
    accounts: dict[str, Annotator],
    study: Study,
    as_account: Callable[[str], TestClient],
    run: Run,  # noqa: F811
) -> None:
    assert accounts
    adam = as_account("adam")
    add_comparison(store, study, "Why?", ["a", "b"])
    adam.get(f"/api/studies/{study.id}/hours.csv")
    adam.post("/login", json={"name": "bea", "password": "wrong password"})
    store.studies.set_guideline(study, "Be fair.", accounts["adam"].id)
    run("people", "remove", "bea", "--db", store.path)
    adam.post("/logout")
    lines = json.loads(run("audit", "--json", "--db", store.path)[1])
    said = [(line["actor"], line["kind"], line["subject"]) for line in lines]
    for line in (
        ("adam", "login", "adam"), ("adam", "download", study.id), ("", "login refused", "bea"), ("adam", "logout", "adam"),
        ("adam", "guidelines", study.id), ("", "account closed", "bea"), ("", "account created", "ann"),
        ("", "study created", study.id),
    ):  # fmt: skip
        assert line in said
    mine = json.loads(run("audit", "--who", "adam", "--json", "--db", store.path)[1])
    assert {line["actor"] for line in mine} == {"adam"} and len(mine) == 4
    assert "adam  logout  adam" in run("audit", "--limit", "3", "--db", store.path)[1]
    assert run("audit", "--limit", "2", "--since", "2200-01-01", "--json", "--db", store.path)[1] == "[]\n"
    assert not {PASSWORD, "wrong password"} & set(json.dumps(lines).split('"'))


def test_what_is_taken_out_of_the_database_is_in_the_log(
    store: Store, accounts: dict[str, Annotator], study: Study, tmp_path: Path,
    as_account: Callable[[str], TestClient], run: Run,  # noqa: F811
) -> None:  # fmt: skip
    act(store, accounts["bea"], add_comparison(store, study, "Why?", ["a", "b"]))
    trained = add_run(store, tmp_path, "r")
    report(tmp_path, "r", "<h1>r</h1>")
    adam, db = as_account("adam"), ("--db", store.path)
    for path in (f"studies/{study.id}/rankings.jsonl", f"runs/{trained}/run.zip", f"runs/{trained}/report"):
        assert adam.get(f"/api/{path}").status_code == 200
    for command in (("export", "--out", tmp_path / "x.jsonl"), ("backup", "--out", tmp_path / "b.db")):
        assert run(*command, *db)[0] == 0
    lines = json.loads(run("audit", "--json", *db)[1])[:5]
    assert [(line["actor"], line["kind"], line["subject"]) for line in lines] == [
        ("", "backup", ""), ("", "export", study.id), ("adam", "report read", trained), ("adam", "download", trained),
        ("adam", "download", study.id),
    ]  # fmt: skip
    assert lines[1]["detail"] == {"format": "jsonl", "split": "train", "names": False, "hub": None}
    assert Store(tmp_path / "b.db").events.newest(1)[0].kind == "backup", "it is in the copy as well"


def test_on_a_full_disk_a_command_takes_what_it_can_though_the_log_cannot_say_so(store: Store) -> None:
    store.settle()
    with no_file_grows(1024):
        note_taken(store, "export", "", {})
    assert store.events.newest(1) == []
    note_taken(store, "export", "", {})
    assert [event.kind for event in store.events.newest(1)] == ["export"]


def test_a_backup_of_an_older_database_leaves_it_as_it_is(store: Store, tmp_path: Path, run: Run) -> None:  # noqa: F811
    with store.write() as db:
        db.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm015%'")
    before = store.events.newest(10)
    assert run("backup", "--out", tmp_path / "b.db", "--db", store.path)[0] == 0
    assert store.events.newest(10) == before and not list(tmp_path.glob("*.before-*"))


def test_the_log_keeps_what_was_done_by_and_to_whoever_is_erased(store: Store, person: Annotator) -> None:
    before = store.events.newest(1000)
    store.erasures.erase(person, "somebody")
    erased, *rest = store.events.newest(1000)
    assert rest == before and (erased.kind, erased.subject, erased.actor) == ("erased", person.id, "somebody")
    assert NAME not in json.dumps([event.detail for event in before])


@pytest.mark.parametrize(
    "act", ["UPDATE events SET actor = ''", "DELETE FROM events", "REPLACE INTO events SELECT * FROM events"]
)
def test_nothing_in_the_log_is_changed_or_removed(store: Store, person: Annotator, act: str) -> None:
    assert person
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.write() as db:
        db.execute(act)


# ---- CSV


@pytest.mark.parametrize(
    "name",
    [
        "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", " =1", "＝1", "＋1", "－1", "＠1", "=HYPERLINK(\"https://x\",\"y\")",
        "=cmd|' /C calc'!A0", "a;=1+1", "a\t+1", "a|@1", "a,-1", "a\n=1", "a;  =1", "+4915112345678", "-x", "@ann",
    ],
)  # fmt: skip
def test_no_cell_of_a_csv_is_a_formula(store: Store, study: Study, name: str) -> None:
    somebody = store.annotators.add(name, "annotator", "")
    act(store, somebody, add_comparison(store, study, "Why?", ["a", "b"]))
    text = hours_csv(store, study)
    for separator in ",;\t|":
        for row in csv.reader(io.StringIO(text), delimiter=separator):
            for cell in row:
                for part in cell.splitlines() or [""]:
                    assert not part.lstrip()[:1] or part.lstrip()[0] not in "=+-@＝＋－＠", (separator, cell)
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["annotator"].replace("'", "") == name.replace("'", "")


def test_a_plain_name_stays_as_it_is() -> None:
    for name in ("ann", "José-María", "a@b.example", "x=1", "O'Neil", "李", "1-2"):
        assert safe_cell(name) == name
