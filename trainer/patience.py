"""Requests that are made again while a server is busy, restarts, or cannot be reached."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from preferences.errors import RankloopError

BUSY = (429, 500, 502, 503, 504, 507)  # 507: its disk is full, and somebody will make room


class Unreachable(RankloopError):
    """A server gave no answer for too long."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried again. Waits double up to `longest`, and are drawn between 0 and that ("full jitter"), so
    that many who were cut off at once do not come back at once; what a server asks for in Retry-After is the least."""

    seconds: float
    first: float = 0.5
    longest: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)
    told: Callable[[str], object] = bool  # hears once that it has begun to wait, and why

    def ask(self, request: Callable[[], httpx.Response]) -> httpx.Response:
        """The first answer that is not that the server is busy. Raises Unreachable."""
        ends, wait, told = self.clock() + self.seconds, self.first, False
        while True:
            least = 0.0
            try:
                answer = request()
                if answer.status_code not in BUSY:
                    return answer
                why = f"it answers {answer.status_code}"
                least = asked_for(answer)
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
            pause = max(least, self.rng.uniform(0, wait))
            if self.clock() + pause > ends:
                raise Unreachable(f"The server cannot be reached ({why}); is it running, at this address?")
            if not told:
                self.told(f"Waiting for the server ({why}) ...")
            told = True
            self.sleep(pause)
            wait = min(2 * wait, self.longest)


def asked_for(answer: httpx.Response) -> float:
    """The seconds in Retry-After, or 0."""
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() and len(said) < 6 else 0.0
