"""One thread in which work that would hold up the event loop is done, one piece after the other.

For work of a millisecond a pool costs more in handing over than it gains, and SQLite lets only one write at a time anyway.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Turns:
    """A thread of its own. `name`: as debuggers show it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: deque[Callable[[], None]] = deque()
        self._patient: deque[Callable[[], None]] = deque()

    async def take(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What `work` returns or raises, once its turn has come."""
        return await self._queue(self._waiting, partial(work, *arguments, **named))

    async def take_last(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The same for what nobody sits and waits for: its turn comes when no other work is left."""
        return await self._queue(self._patient, partial(work, *arguments, **named))

    async def _queue(self, queue: deque[Callable[[], None]], work: Callable[[], T]) -> T:
        done: Future[T] = Future()
        queue.append(partial(_finish, done, work))
        self._thread.submit(self._next)
        return await asyncio.wrap_future(done)

    def _next(self) -> None:
        """One piece of work, whichever is first: as many of these are handed to the thread as there is work."""
        (self._waiting or self._patient).popleft()()


def _finish(done: Future[Any], work: Callable[[], Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except BaseException as error:  # for whoever asked, whatever it is
        done.set_exception(error)
