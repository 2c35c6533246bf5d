"""Erases people whose time is up, while the labeler serves: see `preferences.tables.erasures`."""

import logging
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from preferences.beside import beside
from preferences.logs import note
from preferences.store import Store

EVERY_SECONDS = 6 * 3600.0
LOOK_SECONDS = 60.0


@contextmanager
def retaining(store: Store, every: float = EVERY_SECONDS, look: float = LOOK_SECONDS) -> Iterator[None]:
    """Meanwhile a thread sweeps at once, and again every so many seconds, of which no clock can be set.

    Also as soon as the store's clock has been set back, within `look` seconds: what was noted while it was wrong is called
    off before it is a day old.
    """
    with beside(lambda over: sweep_on(store, over, every, look)):
        yield


def sweep_on(store: Store, over: Event, every: float, look: float) -> None:
    """Until it is over."""
    due, seen = -math.inf, -math.inf
    while True:
        now = store.clock()
        if time.monotonic() >= due or now < seen:
            sweep(store)
            due = time.monotonic() + every
        seen = now
        if over.wait(look):
            store.close()
            return


def sweep(store: Store) -> None:
    """Once; a database that cannot be written now is swept the next time."""
    try:
        erased = len(store.erasures.sweep())
    except sqlite3.Error as error:
        note("sweep", logging.ERROR, error)
    else:
        if erased:
            note("sweep", erased=erased)
