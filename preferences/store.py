"""The one door to the database: connections, pragmas, migrations, and the writing transaction.

The SQL itself stands in `preferences.tables`, one module a noun: `store.prompts`, `store.rankings`, ...
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlite_utils import Database

from preferences.backups import BUSY_SECONDS, back_up
from preferences.checkup import RESTORE, check_pages, check_place, check_writable, is_busy
from preferences.errors import BadDatabase, Busy
from preferences.migrations import migrations, unknown_migrations
from preferences.tables.annotators import Annotators
from preferences.tables.comparisons import Comparisons
from preferences.tables.counters import Counters
from preferences.tables.counts import Counts
from preferences.tables.erasures import Erasures
from preferences.tables.events import Events
from preferences.tables.exclusions import Exclusions
from preferences.tables.exported import Exported
from preferences.tables.golds import Golds
from preferences.tables.images import Images
from preferences.tables.invites import Invites
from preferences.tables.jobs import Jobs
from preferences.tables.labels import LabelColumns
from preferences.tables.lent import Lent
from preferences.tables.policies import Policies
from preferences.tables.promotions import Promotions
from preferences.tables.prompts import Prompts
from preferences.tables.queue import Queue
from preferences.tables.rankings import Rankings
from preferences.tables.remarks import Remarks
from preferences.tables.responses import Responses
from preferences.tables.runs import Runs
from preferences.tables.scores import Scores
from preferences.tables.spot_checks import SpotChecks
from preferences.tables.studies import Studies
from preferences.tables.work import Work
from preferences.tables.worker_tokens import WorkerTokens
from preferences.tables.workers import Workers

CACHE_KB, SNAPSHOT_KB = 2000, 80000  # of a connection's page cache: as SQLite has it, and while it reads a snapshot
BUSY_PAUSE = 0.01  # seconds between two tries
SMALLEST_PAGE = 512  # bytes: no SQLite database that holds anything is smaller


class Store:
    """All that is kept, in one SQLite file; safe to share between threads (a connection each).

    Raises BadDatabase if the file is not a database of this or an older version, or on a network file system. `clock` gives
    seconds since the epoch.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self.clock = clock
        self._local = threading.local()
        self._turn = threading.Lock()
        self._failed = False  # the last transaction, for want of a lock, of room, of a disk
        self._mode = "rwc"
        self._migrate()
        self._mode = "rw"  # from now on it is there: if it is removed, no thread makes an empty one in its place
        self.studies = Studies(self)
        self.prompts = Prompts(self)
        self.policies = Policies(self)
        self.responses = Responses(self)
        self.comparisons = Comparisons(self)
        self.annotators = Annotators(self)
        self.queue = Queue(self)
        self.rankings = Rankings(self)
        self.counters = Counters(self)
        self.golds = Golds(self)
        self.exclusions = Exclusions(self)
        self.erasures = Erasures(self)
        self.invites = Invites(self)
        self.jobs = Jobs(self)
        self.workers = Workers(self)
        self.runs = Runs(self)
        self.promotions = Promotions(self)
        self.events = Events(self)
        self.counts = Counts(self)
        self.exported = Exported(self)
        self.images = Images(self)
        self.remarks = Remarks(self)
        self.work = Work(self)
        self.scores = Scores(self)
        self.spot_checks = SpotChecks(self)
        self.labels = LabelColumns(self)
        self.worker_tokens = WorkerTokens(self)
        self.lent = Lent(self)

    @property
    def db(self) -> Database:
        """This thread's connection, for reading; every write goes through `write()`."""
        if not hasattr(self._local, "db"):
            self._local.db = self._connect()
        db: Database = self._local.db
        return db

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[Database]:
        """One writing transaction; a nested call joins the outer one.

        A commit waits for the disk, unless not `durable`: then a power cut (not a crash of the program) may take it back,
        up to the next durable commit.

        It begins IMMEDIATE: sqlite-utils' own `atomic()` begins deferred, and a read-then-write in a deferred
        transaction fails at once with "database is locked" when another writer came between. A commit that fails (a
        full disk) is rolled back too: the next `write()` of this thread must not join a transaction that nobody will
        commit.
        """
        db = self.db
        assert not getattr(self._local, "reading", False), "Nothing may be written inside a snapshot."
        if db.conn.in_transaction:
            yield db
            return
        # SQLite makes a second writer sleep and try again, ever longer; the threads of one process can do better.
        with self._turn, self._synchronous(db, durable):
            try:
                db.conn.execute("BEGIN IMMEDIATE")
                yield db
                db.conn.commit()
            except BaseException as error:
                self._failed = self._failed or isinstance(error, sqlite3.OperationalError)
                db.conn.rollback()
                raise
            self._failed = False

    def can_write(self, seconds: float) -> bool:
        """Whether a transaction can begin within so many seconds; if the last one failed, whether one can be stored again."""
        db, until = self.db, time.monotonic() + seconds
        if not self._turn.acquire(timeout=seconds):
            return False
        try:
            db.execute(f"PRAGMA busy_timeout={max(0, int(1000 * (until - time.monotonic())))}")
            db.execute("BEGIN IMMEDIATE")
            if self._failed:
                db.execute("PRAGMA user_version=0")  # what it is, but written
            db.conn.commit()
            self._failed = False
            return True
        except sqlite3.OperationalError:
            db.conn.rollback()
            return False
        finally:
            db.execute(f"PRAGMA busy_timeout={int(1000 * BUSY_SECONDS)}")
            self._turn.release()

    @contextmanager
    def overwriting(self) -> Iterator[None]:
        """What is deleted meanwhile is overwritten, in the file and in its write-ahead log, which is emptied at the end."""
        self.db.execute("PRAGMA secure_delete=ON")
        try:
            yield
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.db.execute("PRAGMA secure_delete=FAST")

    @staticmethod
    @contextmanager
    def _synchronous(db: Database, durable: bool) -> Iterator[None]:
        """Whether commits wait for the disk meanwhile."""
        if durable:
            yield
            return
        db.conn.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            db.conn.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read in the block is of one moment, whoever writes meanwhile; nothing may be written in it.

        One inside another, or inside a `write`, is part of it.
        """
        db = self.db
        if getattr(self._local, "reading", False) or db.conn.in_transaction:
            yield
            return
        db.execute(f"PRAGMA cache_size=-{SNAPSHOT_KB}")  # what reads much in no order is faster with it
        db.execute("BEGIN")
        self._local.reading = True
        try:
            yield
        finally:
            self._local.reading = False
            db.conn.rollback()
            db.execute(f"PRAGMA cache_size=-{CACHE_KB}")

    def check(self) -> str:
        """For programs that stay: whole pages, a place that can be written, locks that hold; a warning, or "".

        Raises BadDatabase.
        """
        check_pages(self.db.conn, self.path)
        check_writable(self.db.conn, self.path)
        return check_place(self.path)

    def settle(self) -> None:
        """Bring all that was committed, drafts too, from the log into the database and onto the disk, at the end."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "db"):
            self._local.db.close()
            del self._local.db

    def _connect(self) -> Database:
        place = f"{self.path.absolute().as_uri()}?mode={self._mode}"
        connection = sqlite3.connect(place, BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
        write_ahead(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=FAST"):
            connection.execute(f"PRAGMA {pragma}")
        return Database(connection)

    def _migrate(self) -> None:
        """Make or update the schema; an older database is copied first."""
        if not self.path.parent.is_dir():
            raise BadDatabase(f"The folder of the database {self.path} does not exist; create it or give another --db.")
        check_place(self.path)
        try:
            if self.path.exists() and self.path.stat().st_size > 0:
                refuse_foreign(self.path)
            if not migrations.pending(self.db):
                return
            with without_foreign_keys(self.db), self.write() as db:
                pending = migrations.pending(db)  # again: another process may have been faster
                if pending and migrations.applied(db):
                    check_pages(db.conn, self.path)
                    back_up(self.path, self.path.with_name(f"{self.path.name}.before-{pending[0].name}"))
                migrations.apply(db)
                if db.execute("PRAGMA foreign_key_check").fetchone():
                    raise sqlite3.IntegrityError("rows refer to others that are not there")
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise (Busy if is_busy(error) else BadDatabase)(why_not(self.path, error)) from error


def write_ahead(connection: sqlite3.Connection) -> None:
    """Put a database into WAL mode; SQLite does not wait for others' locks when it changes the mode, so this does."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(BUSY_PAUSE)


@contextmanager
def without_foreign_keys(db: Database) -> Iterator[None]:
    """Whether rows that are referred to exist is not watched meanwhile: a table that others refer to can be made anew."""
    db.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        db.execute("PRAGMA foreign_keys=ON")


def is_current(path: Path) -> bool:
    """Whether opening the database as a Store leaves its schema as it is."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        db = Database(connection)
        return not migrations.pending(db) and not unknown_migrations(db)


def refuse_foreign(path: Path) -> None:
    """Raises BadDatabase if another program or a newer version made the file, which is left as it is.

    Hence no pragmas: `journal_mode=WAL` alone would change two bytes of another program's file. SQLite itself would take
    a file of one byte for an empty database. The file is never opened but by SQLite: closing any other handle to it would
    drop this process's POSIX locks on it, and another process could then delete the WAL under an open connection.
    """
    if path.stat().st_size < SMALLEST_PAGE:
        raise BadDatabase(f"{path} cannot be opened as a database (it is another kind of file); give another --db.")
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        db = Database(connection)
        if db.table_names() and not migrations.applied(db):
            raise BadDatabase(f"{path} is a database of another program; give another --db.")
        newer = unknown_migrations(db)
    if newer:
        names = ", ".join(sorted(newer))
        raise BadDatabase(f"{path} was made by a newer version of rankloop (it has {names}); update rankloop.")


def why_not(path: Path, error: Exception) -> str:
    """Why a database cannot be opened, and what to do. Python has no finer class for damage than sqlite3.DatabaseError."""
    if type(error) is sqlite3.DatabaseError:
        return f"{path} cannot be opened as a database ({error}); if it was one: {RESTORE.format(path=path)}"
    return f"{path} cannot be opened as a database ({error}); give another --db."
