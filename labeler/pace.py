"""How often somebody may ask: an even pace, with a minute's reserve for bursts.

By the generic cell rate algorithm (ITU-T I.371, annex A).
"""

import time
from collections.abc import Callable
from ipaddress import ip_address
from math import ceil

from starlette.types import ASGIApp, Receive, Scope, Send

from labeler.failures import failure
from labeler.security import CACHED

MOST_KEYS = 10_000  # that are remembered before those with a full reserve are forgotten
RESERVE_SECONDS = 60.0


class Pace:
    """`a_minute` requests a minute for each key. One number a key; used by one thread, the event loop's."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = RESERVE_SECONDS / a_minute
        self._clock = clock
        self._full: dict[str, float] = {}  # when the key's reserve is full again

    def wait(self, key: str) -> float:
        """Seconds until the key may ask; 0 if it may now, and then this counts."""
        now = self._clock()
        full = max(self._full.get(key, now), now) + self._step
        wait = full - now - RESERVE_SECONDS
        if wait > self._step / 1000:  # more than rounding
            return wait
        if len(self._full) >= MOST_KEYS:
            self._full = {one: when for one, when in self._full.items() if when > now}
        self._full[key] = full
        return 0.0


class Throttle:
    """Refuses whoever asks too often; what browsers keep is not counted. Pure ASGI.

    `key`: who asks, or None for somebody whom this does not concern.
    """

    def __init__(self, app: ASGIApp, pace: Pace, key: Callable[[Scope], str | None]) -> None:
        self.app = app
        self.pace = pace
        self.key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        key = None if scope["type"] != "http" or scope["path"].startswith(CACHED) else self.key(scope)
        wait = self.pace.wait(key) if key else 0.0
        if not wait:
            await self.app(scope, receive, send)
            return
        refusal = failure(429, "slow_down", "These are more requests than one may send; wait a moment, then go on.")
        refusal.headers["Retry-After"] = str(ceil(wait))
        await refusal(scope, receive, send)


def by_address(scope: Scope) -> str | None:
    """The address that asks."""
    return network(scope["client"][0]) if scope.get("client") else None


def by_account(scope: Scope) -> str | None:
    """The account or worker's token that the gate found."""
    state = scope.get("state", {})
    found = state.get("account") or state.get("worker")
    return found.id if found else None


def network(address: str) -> str:
    """The address, of IPv6 the half that names a network: whoever has one address there has them all."""
    if ":" not in address:
        return address
    try:
        return ip_address(address.partition("%")[0]).exploded[:19]
    except ValueError:
        return address
