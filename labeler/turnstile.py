"""The one way in for passwords: they are hashed one at a time, and nobody keeps the others waiting."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from labeler.pace import Pace
from preferences.errors import RankloopError

LOGINS_A_MINUTE = 120  # of one account; with a minute's reserve, as every pace
WAITING_OF_ONE, WAITING_MOST = 10, 1000
T = TypeVar("T")


class TooManyTries(RankloopError):
    """Too many passwords for one account or from one address, or wrong links from one, within a minute."""


class Turnstile:
    """Work that hashes a password, done in a thread, in the order in which it came. Used by one thread, the event loop's.

    A hash takes 64 MiB and a core for a moment: a flood of them takes neither from the annotators' requests, and none of
    one account the turns of the others.
    """

    def __init__(self) -> None:
        self._turn = CapacityLimiter(1)
        self._pace = Pace(LOGINS_A_MINUTE)
        self._waiting = Counter[str]()

    async def take(self, account: str, work: Callable[..., T], *arguments: object) -> T:
        """What `work` returns or raises. Raises TooManyTries if too many others wait, or too many of `account`, an id."""
        full = self._waiting[account] >= WAITING_OF_ONE or self._waiting.total() >= WAITING_MOST
        if full or self._pace.wait(account):
            raise TooManyTries("Too many passwords at once; wait a minute, then try again.")
        self._waiting[account] += 1
        try:
            return await to_thread.run_sync(work, *arguments, limiter=self._turn)
        finally:
            self._waiting -= Counter([account])
