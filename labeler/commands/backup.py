"""`labeler backup` and `labeler restore`."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tyro.conf import Positional

from preferences.backups import BadBackup, back_up, checked, prune, restore
from preferences.cli import DEFAULT_DB, check_there, note_taken, say
from preferences.errors import BadDatabase
from preferences.store import Store, is_current, refuse_foreign


@dataclass(frozen=True, slots=True)
class Backup:
    """Copy the database as it is at this moment, while annotators go on, with a manifest of its hash and row counts."""

    out: Path = Path("backups")
    """The file to write; or a folder, in which the backup is named after the time."""
    keep: int | None = None
    """In a folder: remove all but so many of this database's newest backups."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Never over a file that is there."""
        if self.keep is not None and (self.keep < 1 or self.out.suffix):
            raise BadBackup("--keep is at least 1, and --out is a folder then; correct one of them.")
        check_there(self.db)
        refuse_foreign(self.db)  # it is not opened as a Store: that would bring an older one up to this version
        with told(f"{self.out} cannot be written"):
            target = self.target()
            self.note()
            made = back_up(self.db, target)
            gone = prune(target.parent, f"{self.db.stem}-*{self.db.suffix}", self.keep) if self.keep else []
        say(
            {"backup": str(target), **asdict(made), "removed": [str(path) for path in gone]},
            f"{target}: {sum(made.rows.values())} rows, {made.rows['rankings']} of them answers; {made.bytes} bytes."
            + (f" {len(gone)} older backups were removed." if gone else ""),
            self.json,
        )

    def note(self) -> None:
        """In the audit log, and so in the backup too, if the database is of this version and can be written."""
        if is_current(self.db):
            with suppress(BadDatabase):
                store = Store(self.db)
                note_taken(store, "backup", "", {"keep": self.keep})
                store.close()

    def target(self) -> Path:
        """The file to be written. Raises BadBackup if it is there."""
        target = self.out
        if self.out.is_dir() or not self.out.suffix:
            self.out.mkdir(mode=0o700, parents=True, exist_ok=True)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            target = self.out / f"{self.db.stem}-{stamp}{self.db.suffix}"
        if target.exists():
            raise BadBackup(f"{target} exists already; give another --out.")
        if not target.parent.is_dir():
            raise BadBackup(f"The folder of {target} does not exist; create it or give another --out.")
        return target


@dataclass(frozen=True, slots=True)
class Restore:
    """Put a backup in the database's place, if its hash and row counts are those of its manifest; the labeler and the worker
    must be stopped. What was there before is kept under another name."""

    backup: Positional[Path]
    """The backup: a file that `labeler backup` made, with its manifest beside it."""
    db: Path = DEFAULT_DB
    """The database to be replaced, or made."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """It is opened once, so that one of an older version is brought up to this one."""
        with told(f"{self.backup} could not be put at {self.db}"):
            said = checked(self.backup)
            refuse_foreign(self.backup)
            aside = restore(self.backup, said, self.db)
        Store(self.db).close()
        document = {"db": str(self.db), "backup": str(self.backup), "rows": said.rows, "created": said.created}
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(said.created))
        say(
            {**document, "replaced": str(aside) if aside else None},
            f"{self.db} is as it was on {when}: {said.rows['rankings']} answers. "
            + (f"What was there before is {aside}." if aside else ""),
            self.json,
        )


@contextmanager
def told(what: str) -> Iterator[None]:
    """What the disk refuses is a sentence. Raises BadBackup."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise BadBackup(f"{what} ({error}); check its disk and permissions, then try again.") from error
