"""Refuses whoever asks too often: an address, an account or a worker's token."""

from collections.abc import Callable
from math import ceil

from starlette.types import ASGIApp, Receive, Scope, Send

from labeler.failures import failure
from labeler.pace import Pace, network
from labeler.security import CACHED


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
