"""Databases of older, newer and other programs."""

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from preferences.backups import checked, manifest_of
from preferences.errors import BadDatabase
from preferences.migrations import FIRST_SCHEMA, migrations
from preferences.records import Study
from preferences.store import Store

TABLES = {
    "studies", "guidelines", "prompts", "study_prompts", "policies", "study_policies", "texts", "responses",
    "comparisons", "comparison_responses", "annotators", "sessions", "leases", "drafts", "rankings", "jobs", "events",
}  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """File name -> hash of its bytes."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> str:
    """The product as it will be after one more migration; its name."""
    monkeypatch.setattr(migrations, "_migrations", list(migrations._migrations))

    @migrations()
    def m999_notes(db: Database) -> None:
        db.execute("CREATE TABLE notes (text TEXT) STRICT")

    return "m999_notes"


def test_the_first_schema_has_every_table_and_all_are_strict(store: Store) -> None:
    assert set(store.db.table_names()) >= TABLES
    strict = {row[1]: row[5] for row in store.db.execute("PRAGMA table_list")}
    assert all(strict[table] for table in TABLES)
    assert sum(statement.startswith("CREATE TABLE") for statement in FIRST_SCHEMA) == len(TABLES)


def test_opening_again_changes_nothing(store: Store, study: Study) -> None:
    store.close()
    before = digests(store.path.parent)
    again = Store(store.path)
    assert again.studies.all() == [study]
    again.close()
    assert digests(store.path.parent) == before


def test_an_older_database_is_backed_up_then_migrated(store: Store, study: Study, extra: str) -> None:
    """The first connection stays open: what is only in the write-ahead log must be in the copy."""
    newer = Store(store.path)
    assert newer.studies.all() == [study]
    assert "notes" in newer.db.table_names()
    backup = store.path.with_name(f"rankloop.db.before-{extra}")
    assert {path.name for path in store.path.parent.iterdir() if "before" in path.name} == {
        backup.name, manifest_of(backup).name,
    }  # fmt: skip
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT name FROM studies").fetchall() == [("main",)]
        assert copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'notes'").fetchone() == (0,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    newer.close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    store: Store, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_migrations", list(migrations._migrations))

    @migrations()
    def m998_broken(db: Database) -> None:
        db.execute("CREATE TABLE half (x)")
        db.execute("this is no SQL")

    with pytest.raises(BadDatabase, match="syntax error"):
        Store(store.path)
    monkeypatch.undo()
    again = Store(store.path)
    assert again.studies.all() == [study]
    assert "half" not in again.db.table_names()
    again.close()


def test_a_newer_database_is_refused_in_one_sentence_and_left_as_it_is(
    store: Store, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(store.path).close()
    store.close()
    monkeypatch.undo()
    before = digests(store.path.parent)
    with pytest.raises(BadDatabase, match=f"newer version of rankloop .*{extra}.*; update rankloop") as caught:
        Store(store.path)
    assert "\n" not in str(caught.value)
    assert digests(store.path.parent) == before


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Even one with a table of the same name, and in rollback mode, whose header `journal_mode=WAL` would change."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE studies (x)")
        other.execute("INSERT INTO studies VALUES (1)")
        other.commit()
    before = digests(tmp_path)
    with pytest.raises(BadDatabase, match="of another program"):
        Store(path)
    assert digests(tmp_path) == before


def test_another_users_of_sqlite_utils_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = Database(path)
    migrations.ensure_migrations_table(other)
    other.close()
    before = digests(tmp_path)
    with pytest.raises(BadDatabase, match="of another program"):
        Store(path)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("content", [b"x", b"no database\n", b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 200])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(BadDatabase, match=r"notes\.txt cannot be opened as a database"):
        Store(path)
    assert digests(tmp_path) == {"notes.txt": hashlib.sha256(content).hexdigest()}


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    store = Store(path)
    store.studies.default()
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["empty.db"]


def database_of_version(path: Path, last: str) -> Database:
    """A database as the product made it when the migration `last` was its newest."""
    db = Database(path)
    names = [migration.name for migration in migrations.pending(Database(memory=True))]
    migrations.apply(db, stop_before=names[names.index(last) + 1])
    return db


FIRST_ROWS = {
    "studies": ("s", "main", 4, "ranking", '{"labels_train": 1, "labels_heldout": 2}', "active", 1.0),
    "prompts": ("p", '[{"role": "user", "content": "Hi"}]', "c", "heldout", "", "", "[]", 1.0),
    "policies": ("sft", "sft", "sft", "", "none", None, None, "", "{}", "", 1.0),
    "texts": ("t", "Hello."),
    "responses": ("r", "p", "sft", "t", 0, 0, 1.0, 1.0, 0, "stop", 1, "", 1.0),
    "comparisons": ("c", "s", "p", "sampled", 0.0, 1.0),
    "annotators": ("a", "ann", "annotator", "hash", 0, 1, "{}", 1.0),
    "leases": ("l", "c", "a", '["r"]', 1.0, 2.0, 1.5),
    "rankings": ("k", "c", "a", "ranking", '[["r"]]', '["r"]', "n", 5, "[]", "{}", "", "", None, None, 2.0),
}


def test_a_database_of_the_first_version_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "first.db"
    old = database_of_version(path, "m001_first_schema")
    for table, row in FIRST_ROWS.items():
        old.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    old.conn.commit()
    old.close()
    store = Store(path)
    (ranking,) = store.rankings.current("s", "heldout")
    assert (ranking.id, ranking.purpose, ranking.tiers) == ("k", "label", [["r"]])
    assert store.annotators.get("ann").languages == []
    assert {table: store.db[table].count for table in FIRST_ROWS} == dict.fromkeys(FIRST_ROWS, 1)
    assert store.db.execute("PRAGMA foreign_key_check").fetchall() == []
    store.close()


def test_a_study_of_the_fifth_version_is_open_to_everybody(tmp_path: Path) -> None:
    path = tmp_path / "fifth.db"
    old = database_of_version(path, "m005_counters_gold_invites")
    for table in ("studies", "annotators"):
        columns = ", ".join(column.name for column in old[table].columns[: len(FIRST_ROWS[table])])
        marks = ", ".join("?" * len(FIRST_ROWS[table]))
        old.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", FIRST_ROWS[table])
    old.conn.commit()
    old.close()
    store = Store(path)
    ann = store.annotators.get("ann")
    assert [study.name for study in store.studies.open_to(ann)] == ["main"]
    store.studies.set_annotators(store.studies.get("main"), [ann])
    assert store.studies.annotators(store.studies.get("main")) == [ann]
    store.close()


def test_texts_are_put_in_the_order_of_their_responses(tmp_path: Path) -> None:
    """And what the table was is still watched: it only grows, and responses need theirs."""
    path = tmp_path / "old.db"
    old = database_of_version(path, "m006_annotators_of_studies")
    for table in ("prompts", "policies"):
        old.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(FIRST_ROWS[table]))})", FIRST_ROWS[table])
    texts = {"b": "second", "x": "of no response", "a": "third", "c": "first"}
    old.conn.executemany("INSERT INTO texts VALUES (?, ?)", texts.items())
    response = "INSERT INTO responses VALUES (?, 'p', 'sft', ?, 0, 0, 1, 1, 0, 'stop', 1, '', 1)"
    old.conn.executemany(response, [("r1", "c"), ("r2", "b"), ("r3", "c"), ("r4", "a")])
    old.conn.commit()
    old.close()
    store = Store(path)
    stored = store.db.execute("SELECT id, text FROM texts ORDER BY rowid").fetchall()
    assert stored == [(ident, texts[ident]) for ident in "cbax"]
    assert [answer.text for answer in store.responses.of_prompt("p")] == ["first", "second", "first", "third"]
    for sql in ("UPDATE texts SET text = ''", "DELETE FROM texts"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.write() as db:
            db.execute(sql)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"), store.write() as db:
        db.execute(response, ["r5", "nowhere"])
    store.close()


def test_a_migration_that_would_leave_rows_without_what_they_refer_to_changes_nothing(
    store: Store, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.studies.set_guideline(study, "Be fair.")
    monkeypatch.setattr(migrations, "_migrations", list(migrations._migrations))

    @migrations()
    def m997_studies_lost(db: Database) -> None:
        db.execute("DELETE FROM studies")

    with pytest.raises(BadDatabase, match="not there"):
        Store(store.path)
    monkeypatch.undo()
    again = Store(store.path)
    assert again.studies.all() == [study]
    again.close()


MIGRATED = """
import sys, time
from preferences.migrations import migrations
from preferences.store import Store

@migrations()
def m999_slow(db):
    db.execute("CREATE TABLE slow (number INTEGER) STRICT")
    for number in range(50):
        db.execute("INSERT INTO slow VALUES (?)", [number])
        print(number, flush=True)
        time.sleep(0.005)

Store(sys.argv[1]).close()
print("done", flush=True)
"""


@pytest.mark.durability
def test_a_migration_that_is_killed_half_way_has_not_begun(store: Store, study: Study, tmp_path: Path) -> None:
    """At ten moments of it: the database is as it was, the copy made before it is whole, and the next start migrates."""
    store.close()
    for kill in range(10):
        path = tmp_path / f"{kill}.db"
        path.write_bytes(store.path.read_bytes())
        command = [sys.executable, "-c", MIGRATED, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while int(process.stdout.readline()) < 5 * kill:
                pass
            process.kill()
        old = Store(path)
        assert old.studies.all() == [study]
        assert "slow" not in old.db.table_names()
        assert old.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        old.close()
        assert checked(path.with_name(f"{path.name}.before-m999_slow")).rows["studies"] == 1
        if kill % 5 == 0:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert done.stdout.endswith("done\n")
            with closing(sqlite3.connect(path)) as new:
                assert new.execute("SELECT count(*) FROM slow").fetchone() == (50,)
