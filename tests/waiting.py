"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(happened: Callable[[], T], seconds: float = 60) -> T:
    """Wait until `happened()` is true; what it gave."""
    ends = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < ends, "It did not happen in time."
        time.sleep(0.01)
    return found
