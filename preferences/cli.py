"""What the command lines share: errors as one sentence on standard error, results as one JSON document."""

import gc
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from preferences.errors import BadDatabase, RankloopError
from preferences.store import Store

DEFAULT_DB = Path("rankloop.db")


def guarded(function: Callable[[], None]) -> NoReturn:
    """Run `function` and exit: 0, 2 after a user's mistake (its sentence on standard error), 130 after Ctrl-C."""
    try:
        function()
        sys.stdout.flush()
    except RankloopError as error:
        _fail(str(error))
    except sqlite3.Error as error:
        damaged = type(error) is sqlite3.DatabaseError
        remedy = (
            "restore a backup as docs/operate.md says" if damaged else "check its disk and permissions, then try again"
        )
        _fail(f"The database could not be read or written ({error}); {remedy}.")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this the interpreter's own flush at exit fails again, noisily.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


def _fail(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


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


def say(document: Any, sentence: str, as_json: bool) -> None:
    """Print one of them on standard output: what a program reads, or what people read."""
    if as_json:
        print_json(document)
    else:
        print(sentence)


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
