"""Backups: whole, of one moment, known by their manifest; and the way back."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from preferences.backups import BadBackup, back_up, checked, manifest_of, prune, restore
from preferences.store import Store

# A restore that is killed before or after the numbered step; 0 is never.
KILLED = """
import os, signal, sys, threading
from pathlib import Path
from preferences import backups
calls = 0
def at(number):
    global calls
    calls += 1
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
for name in ("sync", "sha256_of", "put_aside", "rename"):
    def wrapped(*args, _real=getattr(backups, name)):
        at(int(sys.argv[3]))
        done = _real(*args)
        at(int(sys.argv[3]))
        return done
    setattr(backups, name, wrapped)
said = backups.checked(Path(sys.argv[1]))
backups.restore(Path(sys.argv[1]), said, Path(sys.argv[2]))
"""


def names(path: Path) -> list[str]:
    """The accounts in a database, whichever version it has."""
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute("SELECT name FROM annotators ORDER BY rowid")]


def test_a_backup_is_of_one_moment_while_others_write(store: Store, tmp_path: Path) -> None:
    """Each writer adds two accounts at once: a backup has both or neither, and the writers never wait for it."""
    under_way, over = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            with store.write():
                for half in "ab":
                    store.annotators.add(f"{number} {half}", "annotator", "")
            number += 1
            if number == 100:
                under_way.set()
        store.close()

    writer = threading.Thread(target=write)
    first = back_up(store.path, tmp_path / "0.db")
    writer.start()
    assert under_way.wait(60)
    made = [first, *(back_up(store.path, tmp_path / f"{number}.db") for number in range(1, 8))]
    over.set()
    writer.join()
    counts = [manifest.rows["annotators"] for manifest in made]
    assert counts == sorted(counts) and counts[-1] > counts[0]
    for number, manifest in enumerate(made):
        assert checked(tmp_path / f"{number}.db") == manifest
        assert len(names(tmp_path / f"{number}.db")) == manifest.rows["annotators"]
        assert manifest.rows["annotators"] % 2 == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0].isdigit()) == sorted(
        name for number in range(8) for name in (f"{number}.db", f"{number}.db.json")
    )


def test_what_is_only_in_the_log_is_in_the_backup_and_nobody_else_may_read_it(store: Store, tmp_path: Path) -> None:
    store.annotators.add("ann", "annotator", "secret hash")
    back_up(store.path, tmp_path / "b.db")
    assert names(tmp_path / "b.db") == ["ann"]
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o400


def test_a_damaged_backup_is_refused(store: Store, tmp_path: Path) -> None:
    backup = tmp_path / "b.db"
    with pytest.raises(BadBackup, match="There is no backup"):
        checked(backup)
    store.annotators.add("ann", "annotator", "")
    back_up(store.path, backup)
    whole, manifest = backup.read_bytes(), json.loads(manifest_of(backup).read_text())

    backup.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadBackup, match="SHA-256 differs"):
        checked(backup)
    backup.write_bytes(whole[:-4096])
    with pytest.raises(BadBackup, match="SHA-256 differs"):
        checked(backup)
    backup.write_bytes(whole)
    manifest["rows"]["annotators"] = 2
    manifest_of(backup).write_text(json.dumps(manifest))
    with pytest.raises(BadBackup, match="has 1 rows in annotators where its manifest says 2"):
        checked(backup)
    for text in ("", "[]", "{}"):
        manifest_of(backup).write_text(text)
        with pytest.raises(BadBackup, match="is no manifest"):
            checked(backup)
    manifest_of(backup).unlink()
    with pytest.raises(BadBackup, match="has no manifest"):
        checked(backup)


def test_a_restored_database_is_the_backup_and_the_earlier_one_is_kept(store: Store, tmp_path: Path) -> None:
    backup = tmp_path / "b.db"
    store.annotators.add("before", "annotator", "")
    said = back_up(store.path, backup)
    store.annotators.add("after", "annotator", "")
    command = [sys.executable, "-c", KILLED, str(backup), str(store.path), "0"]  # locks are a process's own
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is in use; stop the labeler and the worker" in done.stderr
    assert [account.name for account in store.annotators.all()] == ["after", "before"]
    store.close()
    aside = restore(backup, said, store.path)
    assert names(store.path) == ["before"]
    assert aside is not None and names(aside) == ["before", "after"]
    assert restore(backup, said, tmp_path / "elsewhere.db") is None
    assert names(tmp_path / "elsewhere.db") == ["before"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_log_of_the_earlier_database_never_gets_into_the_restored_one(store: Store, tmp_path: Path) -> None:
    """A crash left it beside the database."""
    said = back_up(store.path, tmp_path / "b.db")
    store.annotators.add("in the log", "annotator", "")
    crashed = tmp_path / "crashed.db"
    for suffix in ("", "-wal"):
        Path(f"{crashed}{suffix}").write_bytes(Path(f"{store.path}{suffix}").read_bytes())
    aside = restore(tmp_path / "b.db", said, crashed)
    assert names(crashed) == []
    assert aside is not None and names(aside) == ["in the log"]


def test_a_damaged_database_can_be_replaced_and_is_kept(store: Store, tmp_path: Path) -> None:
    said = back_up(store.path, tmp_path / "b.db")
    store.close()
    store.path.write_bytes(b"\0" * 8192)
    aside = restore(tmp_path / "b.db", said, store.path)
    assert aside is not None and aside.read_bytes() == b"\0" * 8192
    assert names(store.path) == []


def test_only_the_newest_backups_are_kept(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "db-other.db").write_text("no backup: it has no manifest")
    for number in range(4):
        back_up(store.path, folder / f"db-{number}.db")
        os.utime(folder / f"db-{number}.db", (number, number))
    gone = prune(folder, "db-*.db", 2)
    assert [path.name for path in gone] == ["db-0.db", "db-1.db"]
    assert {path.name for path in folder.iterdir()} == {
        "db-other.db", "db-2.db", "db-2.db.json", "db-3.db", "db-3.db.json",
    }  # fmt: skip


def test_unfinished_copies_of_long_ago_are_removed(store: Store, tmp_path: Path) -> None:
    old, new = tmp_path / f".x.db.{'a' * 20}", tmp_path / f".y.db.{'b' * 20}"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    back_up(store.path, tmp_path / "b.db")
    assert not old.exists() and new.exists()


@pytest.mark.durability
def test_a_restore_that_is_killed_can_be_done_again(store: Store, tmp_path: Path) -> None:
    """At each of its steps in turn: what is there then is one of the two databases, and the second try succeeds."""
    store.annotators.add("before", "annotator", "")
    said = back_up(store.path, tmp_path / "b.db")
    store.annotators.add("after", "annotator", "")
    store.close()
    seen = set()
    for step in range(1, 40):
        place = tmp_path / str(step)
        place.mkdir()
        (place / "a.db").write_bytes(store.path.read_bytes())
        command = [sys.executable, "-c", KILLED, str(tmp_path / "b.db"), str(place / "a.db"), str(step)]
        done = subprocess.run(command, check=False)
        found = tuple(names(place / "a.db"))
        assert found in (("before",), ("before", "after"))
        seen.add(found)
        if done.returncode == 0:
            break
        restore(tmp_path / "b.db", said, place / "a.db")
        assert names(place / "a.db") == ["before"]
        kept = [tuple(names(path)) for path in place.glob("a.db.replaced-*")]
        assert ("before", "after") in kept
    assert done.returncode == 0 and len(seen) == 2 and step > 6
