"""What the command lines share: errors as one sentence on standard error, results as one JSON document."""

import gc
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from preferences.errors import BadDatabase, Busy, RankloopError
from preferences.store import Store

DEFAULT_DB = Path("rankloop.db")
BUSY_SECONDS = 2.0  # that a command waits to say something which it need not say
MISTAKE, TRY_AGAIN = 2, 75  # exit statuses; the second is EX_TEMPFAIL of sysexits.h


def guarded(function: Callable[[], None]) -> NoReturn:
    """Run `function` and exit: 0, 2 after a user's mistake (its sentence on standard error), 130 after Ctrl-C.

    75: another program holds the database, or its disk is full; nothing is wrong with the command.
    """
    try:
        function()
        sys.stdout.flush()
    except RankloopError as error:
        _fail(str(error), TRY_AGAIN if isinstance(error, Busy) else MISTAKE)
    except sqlite3.Error as error:
        damaged = type(error) is sqlite3.DatabaseError
        remedy = (
            "restore a backup as docs/operate.md says" if damaged else "check its disk and permissions, then try again"
        )
        status = TRY_AGAIN if isinstance(error, sqlite3.OperationalError) else MISTAKE
        _fail(f"The database could not be read or written ({error}); {remedy}.", status)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this the interpreter's own flush at exit fails again, noisily.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _fail(sentence: str, status: int) -> NoReturn:
    print(shown(sentence), file=sys.stderr)
    sys.exit(status)


@contextmanager
def without_collection() -> Iterator[None]:
    """For reading millions of rows, which hold no cycles: the search for some would be a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, ensure_ascii=False, indent=2))


def shown(text: str) -> str:
    """The text for a terminal: of what acts unseen there, as in names that others gave, the signs; lines and tabs stay."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def say(document: Any, sentence: str, as_json: bool) -> None:
    """Print one of them on standard output: what a program reads, or what people read."""
    if as_json:
        print_json(document)
    else:
        print(shown(sentence))


def note_taken(store: Store, kind: str, subject: str, detail: dict[str, Any]) -> None:
    """What a command takes out of the database, in its audit log, if that can be written: when the disk is full, or the
    database a copy to be read, what was taken is no less needed."""
    with suppress(sqlite3.OperationalError):
        if store.can_write(BUSY_SECONDS):
            store.events.add("", kind, subject, detail)


def open_store(path: Path) -> Store:
    """The store at `path`. Raises BadDatabase if there is none: only a command that fills one may make one."""
    check_there(path)
    return Store(path)


def check_there(path: Path) -> None:
    """Raises BadDatabase if there is no such file."""
    if not path.is_file():
        raise BadDatabase(
            f"There is no database {path}; give the right --db, or start one with `labeler import prompts`."
        )
