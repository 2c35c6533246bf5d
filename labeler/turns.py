"""One thread in which work that would hold up the event loop is done, one piece after the other.

For work of a millisecond a pool costs more in handing over than it gains, and SQLite lets only one write at a time anyway.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Turns:
    """A thread of its own. `name`: as debuggers show it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)

    async def take(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What `work` returns or raises, once its turn has come."""
        return await asyncio.wrap_future(self._thread.submit(work, *arguments, **named))
