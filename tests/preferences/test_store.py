"""The one door: connections, pragmas and the writing transaction."""

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from preferences.errors import BadDatabase
from preferences.records import Study
from preferences.store import Store

THREADS, STEPS = 8, 50


def count(store: Store) -> int:
    return int(store.annotators.get("counter").settings["count"])


def test_read_then_write_steps_of_eight_threads_lose_nothing(store: Store) -> None:
    """With a deferred BEGIN most of these 400 steps fail with "database is locked"."""
    counter = store.annotators.add("counter", "annotator", "")
    store.annotators.change_settings(counter, {"count": 0})

    def step(_: int) -> None:
        for _ in range(STEPS):
            with store.write():
                store.annotators.change_settings(counter, {"count": count(store) + 1})
        store.close()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(step, range(THREADS)))
    assert count(store) == THREADS * STEPS


def pragmas(store: Store) -> dict[str, object]:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "recursive_triggers")
    return {name: store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def test_every_connection_has_the_pragmas(store: Store) -> None:
    expected = {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000, "recursive_triggers": 1
    }  # fmt: skip
    assert pragmas(store) == expected
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(pragmas, store).result() == expected
    store.close()
    assert pragmas(store) == expected


def test_each_thread_has_its_own_connection(store: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: store.db.conn).result()
    assert other is not store.db.conn
    assert store.db.conn is store.db.conn


def test_a_nested_write_joins_and_is_rolled_back_with_the_outer_one(store: Store) -> None:
    with store.write():
        with store.write():
            store.studies.create("kept")
        assert store.db.conn.in_transaction
    assert not store.db.conn.in_transaction
    with pytest.raises(RuntimeError), store.write():
        with store.write():
            store.studies.create("lost")
        raise RuntimeError
    assert [study.name for study in store.studies.all()] == ["kept"]


def test_an_error_leaves_nothing_and_the_next_write_works(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.write():
        store.studies.create("lost")
        raise KeyboardInterrupt
    assert store.studies.all() == []
    store.studies.create("kept")
    assert not store.db.conn.in_transaction


def test_others_see_a_write_only_when_it_is_complete(store: Store) -> None:
    reader = Store(store.path)
    with store.write():
        store.studies.create("new")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: len(reader.studies.all())).result() == 0
    assert len(reader.studies.all()) == 1
    reader.close()


def test_a_failed_commit_is_rolled_back(store: Store, study: Study) -> None:
    """As on a full disk: a transaction left open would swallow every later write of the thread."""
    with pytest.raises(sqlite3.IntegrityError), store.write() as db:
        db.execute("PRAGMA defer_foreign_keys = ON")
        db.execute("INSERT INTO study_prompts VALUES (?, 'no such prompt')", [study.id])
    assert not store.db.conn.in_transaction
    store.studies.create("kept")
    assert len(Store(store.path).studies.all()) == 2


def test_foreign_keys_hold(store: Store, study: Study) -> None:
    with pytest.raises(sqlite3.IntegrityError), store.write() as db:
        db.execute("INSERT INTO study_prompts VALUES (?, 'no such prompt')", [study.id])


def test_a_row_that_breaks_a_check_is_an_error_even_where_known_rows_are_left_alone(store: Store) -> None:
    """INSERT OR IGNORE dropped such a row without a word."""
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        store.studies.insert("studies", [{
            "id": "x", "name": "x", "k": 99, "mode": "", "plan": "{}", "status": "active", "created": 0.0
        }], ignore=True)  # fmt: skip


def make_store(path: str) -> str:
    store = Store(path)
    store.studies.default()
    store.close()
    return "made"


def test_many_processes_may_make_the_database_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "new.db")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(make_store, [path] * 8) == ["made"] * 8
    assert len(Store(path).studies.all()) == 1


def test_many_threads_may_make_the_database_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        path = str(tmp_path / f"new{attempt}.db")
        with ThreadPoolExecutor(THREADS) as pool:
            assert list(pool.map(make_store, [path] * THREADS)) == ["made"] * THREADS


def test_a_new_database_that_another_is_making_is_waited_for(tmp_path: Path) -> None:
    """Where another is about to write, SQLite refuses to change a file's mode at once, whatever its timeout."""
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.5, other.rollback)
    timer.start()
    assert make_store(str(tmp_path / "new.db")) == "made"
    timer.join()
    other.close()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDatabase, match=r"no-such-folder.* does not exist"):
        Store(tmp_path / "no-such-folder" / "x.db")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(BadDatabase, match="cannot be opened"):
        Store(tmp_path)


def test_counts(store: Store, study: Study) -> None:
    assert store.counts.all() == {
        "studies": 1, "prompts": 0, "policies": 0, "responses": 0, "comparisons": 0, "rankings": 0, "skips": 0,
        "annotators": 0,
    }  # fmt: skip
    assert store.studies.default() == study


def test_another_process_that_comes_and_goes_leaves_an_open_store_whole(tmp_path: Path) -> None:
    """Reading the file other than through SQLite drops this process's locks; a second process then deletes the WAL."""
    path = tmp_path / "shared.db"
    first = Store(path)
    first.studies.create("before")
    Store(path).studies.all()
    program = f"from preferences.store import Store; s = Store({str(path)!r}); s.studies.create('other'); s.close()"
    subprocess.run([sys.executable, "-c", program], check=True)
    first.studies.create("after")
    assert [study.name for study in Store(path).studies.all()] == ["before", "other", "after"]
    assert first.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
