"""Looks after the database's disk while the labeler serves, and raises the alarm before it hurts."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from labeler.health import file_of, readiness
from preferences.beside import beside
from preferences.disk import Disk
from preferences.logs import note
from preferences.store import Store

EVERY_SECONDS = 20.0


@contextmanager
def watching(store: Store, disk: Disk, every: float = EVERY_SECONDS) -> Iterator[None]:
    """Meanwhile a thread looks every so many seconds; what has changed is logged and said on standard error."""
    with beside(lambda over: look(store, disk, over, every)):
        yield


def look(store: Store, disk: Disk, over: Event, every: float) -> None:
    """Until it is over."""
    place, before = file_of(store), {"ready": True, "problems": [], "warnings": []}
    while True:
        now = readiness(store, disk, place)
        if now != before:
            level = logging.ERROR if now["problems"] else logging.WARNING if now["warnings"] else logging.INFO
            note("state", level, **now, free_mb=disk.free() // 1_000_000)
            for sentence in sentences(store, disk, now["problems"]):
                print(sentence, file=sys.stderr, flush=True)
            before = now
        if over.wait(every):
            store.close()
            return


def sentences(store: Store, disk: Disk, problems: list[str]) -> list[str]:
    """What is wrong and what to do, a sentence each."""
    said = [disk.alarm()] if disk.alarm() else []
    if "moved" in problems:
        said.append(f"{store.path} was moved, replaced or removed: stop the labeler, put it back, and start again.")
    if "unwritable" in problems:
        said.append(
            f"Nothing can be stored in {store.path}: its disk is full, read-only or broken, or another program holds the "
            "database; docs/operate.md says what to do."
        )
    if "database" in problems:
        said.append(f"{store.path} cannot be read: stop the labeler and look at its disk; docs/operate.md says how.")
    return said
