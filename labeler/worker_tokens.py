"""Who may come in as a worker on another host: bearer tokens, which open the worker's routes and nothing else."""

import re
import secrets

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers

from labeler.accounts import token_hash
from labeler.turnstile import TooManyTries
from preferences.errors import RankloopError
from preferences.jobs import WorkerToken
from preferences.store import Store

PATH = "/api/worker/"
PREFIX = "rlw_"  # so that secret scanners, and people, know one when they see it
WRONG_A_MINUTE = 20
TOKEN_MOST = 200
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadTokenName(RankloopError):
    """A worker token's name has 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit."""


def new_token(store: Store, name: str, actor: str = "") -> str:
    """A new token's secret, which is kept nowhere. Raises BadTokenName, NameTaken."""
    if not NAME.fullmatch(name):
        raise BadTokenName(f"{BadTokenName.__doc__} It cannot be {name!r}.")
    secret = PREFIX + secrets.token_urlsafe(32)
    store.worker_tokens.add(name, token_hash(secret), actor)
    return secret


class WorkerTokens:
    """Looks tokens up; an address that shows too many wrong ones is refused for a minute, also with a right one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._wrong = RateLimitItemPerMinute(WRONG_A_MINUTE)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def of(self, headers: Headers, address: str) -> WorkerToken | None:
        """Whose request it is, or None. Raises TooManyTries."""
        if not self._limiter.test(self._wrong, "worker", address):
            raise TooManyTries("Too many wrong worker tokens from this address; wait a minute, then try again.")
        if "authorization" not in headers:
            return None
        scheme, _, secret = headers["authorization"].partition(" ")
        fits = scheme.lower() == "bearer" and secret.startswith(PREFIX) and len(secret) <= TOKEN_MOST
        found = self.store.worker_tokens.of_hash(token_hash(secret)) if fits else None
        if found is None:
            self._limiter.hit(self._wrong, "worker", address)
        return found
