"""Backups: a whole copy of a database while others work on it, with a manifest that tells it from a damaged one; and back.

A backup is two files: NAME, a database that anything can open, and NAME.json, its manifest.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from preferences.checkup import first_damage
from preferences.errors import RankloopError
from preferences.records import random_id

BUSY_SECONDS = 30
SHARED_LOCK = (
    510,
    0x40000000 + 2,
)  # length and first byte of the lock that every connection to a file in WAL mode holds
BESIDE = ("-wal", "-shm")  # what SQLite keeps beside a database that is open
ABANDONED_SECONDS = 24 * 3600  # older unfinished copies are those of programs that were killed


class BadBackup(RankloopError):
    """The backup is not whole, or cannot be made or restored there."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is. `rows`: table -> rows; `created`: seconds since the epoch; `version`: of the program that made it."""

    sha256: str
    bytes: int
    rows: dict[str, int]
    created: float
    version: str


def back_up(source: Path, target: Path) -> Manifest:
    """Copy a database as it is at this moment, whole or not at all, while others use it. Raises BadBackup, OSError.

    All in one step: SQLite would begin again each time that another process writes between two.
    """
    temporary = target.with_name(f".{target.name}.{random_id()}")
    try:
        drop_abandoned(target)
        temporary.touch(mode=0o600)  # it holds hashes of passwords
        with closing(sqlite3.connect(source, timeout=BUSY_SECONDS)) as old, closing(sqlite3.connect(temporary)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode=DELETE")  # one file, without -wal and -shm beside it
            damage = first_damage(new)
            rows = row_counts(new)
        if damage:
            raise BadBackup(f"{source} is damaged ({damage}), so no backup was made; docs/operate.md says what to do.")
        made = Manifest(sha256_of(temporary), temporary.stat().st_size, rows, time.time(), version("rankloop"))
        write_whole(manifest_of(target), json.dumps(asdict(made), indent=1) + "\n")
        temporary.chmod(0o400)  # to open it as a database would change it
        rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return made


def checked(backup: Path) -> Manifest:
    """The manifest of a backup that is what it says: by its hash, its pages and its row counts. Raises BadBackup."""
    if not backup.is_file():
        raise BadBackup(f"There is no backup {backup}; give the database file that `labeler backup` made.")
    try:
        said = Manifest(**json.loads(manifest_of(backup).read_text()))
    except FileNotFoundError as error:
        raise BadBackup(
            f"{backup} has no manifest {manifest_of(backup).name} beside it, so nothing says whether it is whole; "
            "restore a backup that has one."
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise BadBackup(f"{manifest_of(backup)} is no manifest ({error}); restore another backup.") from error
    if sha256_of(backup) != said.sha256:
        raise BadBackup(f"{backup} is not what was backed up (its SHA-256 differs); restore another backup.")
    with closing(read_only(backup)) as copy:
        damage = first_damage(copy)
        if damage:
            raise BadBackup(f"{backup} is damaged ({damage}); restore another backup.")
        found = row_counts(copy)
    if found != said.rows:
        wrong = sorted(name for name in {*found, *said.rows} if found.get(name) != said.rows.get(name))[0]
        raise BadBackup(
            f"{backup} has {found.get(wrong, 'no')} rows in {wrong} where its manifest says {said.rows.get(wrong, 'none')}; "
            "restore another backup."
        )
    return said


def restore(backup: Path, said: Manifest, target: Path) -> Path | None:
    """Put a checked backup in the place of a database; where the earlier one was put aside, if there was one.

    Raises BadBackup if somebody uses the database, OSError. Killed at any moment it can be called
    again; nothing of the earlier database is lost.
    """
    temporary = target.with_name(f".{target.name}.{random_id()}")
    try:
        shutil.copyfile(backup, temporary)
        temporary.chmod(0o600)
        sync(temporary)
        if sha256_of(temporary) != said.sha256:
            raise BadBackup(f"The copy of {backup} beside {target} is not equal to it; check the disk, then try again.")
        with alone(target):
            aside = put_aside(target)
            rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return aside


def put_aside(path: Path) -> Path | None:
    """Keep a database, with what SQLite has beside it, under another name; that name, if there was one.

    The file also stays where it is until another gets its name. Its log does not: SQLite would write it over that one.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.replaced-{stamp}-{random_id()[:4]}")
    there = [suffix for suffix in ("", *BESIDE) if path.with_name(path.name + suffix).exists()]
    for suffix in there:
        os.link(path.with_name(path.name + suffix), aside.with_name(aside.name + suffix))
    sync(path.parent)
    for suffix in BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside if "" in there else None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody has the database open, and nobody can begin to work on it meanwhile. Raises BadBackup.

    By the lock that SQLite's own connections hold, so that it is also found out of a file that SQLite cannot read. This
    process may have no connection to it: its own locks do not stop it, and closing the file would drop them.
    """
    import fcntl

    if not path.exists():
        yield
        return
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *SHARED_LOCK)
        except OSError as error:
            raise BadBackup(f"{path} is in use; stop the labeler and the worker, then try again.") from error
        yield


def prune(folder: Path, pattern: str, keep: int) -> list[Path]:
    """Remove all but the newest `keep` backups of that pattern of names; those that went."""
    found = [path for path in folder.glob(pattern) if manifest_of(path).is_file()]
    old = sorted(found, key=lambda path: path.stat().st_mtime_ns)[: max(0, len(found) - keep)]
    for path in old:
        path.unlink()
        manifest_of(path).unlink()
    return old


def manifest_of(backup: Path) -> Path:
    """Where the manifest stands."""
    return backup.with_name(f"{backup.name}.json")


def read_only(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody changes; nothing is written beside it."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)


def row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> how many rows it has."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
    )
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names.fetchall()}


def sha256_of(path: Path) -> str:
    """Of a file that no connection of this process has open: closing it would drop that one's locks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def drop_abandoned(target: Path) -> None:
    """Remove unfinished copies of long ago beside the target: a program was killed while it wrote them."""
    for path in target.parent.glob(f".*{target.suffix}.{'[0-9a-f]' * len(random_id())}"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """A small file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{random_id()}")
    temporary.write_text(text)
    rename(temporary, path)


def rename(temporary: Path, path: Path) -> None:
    """Give a finished file its name, so that it is there after a power cut: first the content, then the name."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
