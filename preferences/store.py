"""The one door to the database: connections, pragmas, migrations, and the writing transaction.

The SQL itself stands in `preferences.tables`, one module a noun: `store.prompts`, `store.rankings`, ...
"""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from preferences.errors import BadDatabase
from preferences.migrations import migrations, unknown_migrations
from preferences.tables.annotators import Annotators
from preferences.tables.comparisons import Comparisons
from preferences.tables.counts import Counts
from preferences.tables.events import Events
from preferences.tables.jobs import Jobs
from preferences.tables.policies import Policies
from preferences.tables.prompts import Prompts
from preferences.tables.queue import Queue
from preferences.tables.rankings import Rankings
from preferences.tables.responses import Responses
from preferences.tables.studies import Studies

BUSY_SECONDS = 30


class Store:
    """All that is kept, in one SQLite file; safe to share between threads (a connection each).

    Raises BadDatabase if the file is not a database of this or an older version. `clock` gives seconds since the epoch.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self.clock = clock
        self._local = threading.local()
        self._migrate()
        self.studies = Studies(self)
        self.prompts = Prompts(self)
        self.policies = Policies(self)
        self.responses = Responses(self)
        self.comparisons = Comparisons(self)
        self.annotators = Annotators(self)
        self.queue = Queue(self)
        self.rankings = Rankings(self)
        self.jobs = Jobs(self)
        self.events = Events(self)
        self.counts = Counts(self)

    @property
    def db(self) -> Database:
        """This thread's connection, for reading; every write goes through `write()`."""
        if not hasattr(self._local, "db"):
            self._local.db = self._connect()
        db: Database = self._local.db
        return db

    @contextmanager
    def write(self) -> Iterator[Database]:
        """One writing transaction; a nested call joins the outer one.

        It begins IMMEDIATE: sqlite-utils' own `atomic()` begins deferred, and a read-then-write in a deferred
        transaction fails at once with "database is locked" when another writer came between. A commit that fails (a full
        disk) is rolled back too: the next `write()` of this thread must not join a transaction that nobody will commit.
        """
        db = self.db
        if db.conn.in_transaction:
            yield db
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.conn.commit()
        except BaseException:
            db.conn.rollback()
            raise

    def close(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "db"):
            self._local.db.close()
            del self._local.db

    def _connect(self) -> Database:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return Database(connection)

    def _migrate(self) -> None:
        if not self.path.parent.is_dir():
            raise BadDatabase(f"The folder of the database {self.path} does not exist; create it or give another --db.")
        existed = self.path.exists() and self.path.stat().st_size > 0
        try:
            db = self.db
            newer = unknown_migrations(db)
            pending = migrations.pending(db)
        except (sqlite3.DatabaseError, OSError) as error:
            self.close()
            raise BadDatabase(f"{self.path} cannot be opened as a database ({error}); give another --db.") from error
        if newer:
            self.close()
            raise BadDatabase(
                f"{self.path} was made by a newer version of rankloop (it has {', '.join(sorted(newer))}); update rankloop."
            )
        if existed and not pending:
            return
        if existed and db.table_names():
            if "studies" not in db.table_names():
                raise BadDatabase(f"{self.path} is a database of another program; give another --db.")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy2(self.path, self.path.with_suffix(f"{self.path.suffix}.before-{pending[0].name}"))
        with self.write():
            migrations.apply(db)
