"""Who may come in: passwords, sessions, roles, and the limit on guessing."""

import hashlib
import secrets
from collections.abc import Sequence

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from preferences.errors import RankloopError
from preferences.records import Annotator, Role
from preferences.store import Store

COOKIE = "rankloop_session"
SESSION_SECONDS = 8 * 3600
TRIES_A_MINUTE = 5
PASSWORD_MIN, PASSWORD_MAX = 8, 1024
OWNERS: tuple[Role, ...] = ("researcher", "admin")  # who may see and change whole studies


class BadPassword(RankloopError):
    """The new password is too short or too long."""


class BadLogin(RankloopError):
    """Name and password do not belong together, or the account is not active."""


class TooManyTries(RankloopError):
    """Too many wrong passwords for one account or from one address within a minute."""


class Forbidden(RankloopError):
    """The account's role does not allow this."""


def hash_password(password: str, hasher: PasswordHasher | None = None) -> str:
    """The argon2 hash to be stored. Raises BadPassword."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise BadPassword(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters; choose another one.")
    return (hasher or PasswordHasher()).hash(password)


def password_matches(password_hash: str, password: str) -> bool:
    """Whether the password belongs to the hash; an account without a hash has no password that fits."""
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def token_hash(token: str) -> str:
    """What the database keeps of a session token."""
    return hashlib.sha256(token.encode()).hexdigest()


def account_of(store: Store, token: str | None) -> Annotator | None:
    """Whose session the token opens, or None."""
    return store.annotators.of_session(token_hash(token)) if token else None


def require(store: Store, name: str | None, *roles: Role) -> Annotator:
    """The active account of that name or id, if it has one of the roles (any role if none is given). Raises Forbidden.

    The first line of every Gradio handler: `require(store, request.username, "admin")`.
    """
    account = store.annotators.find(name) if name else None
    if account is None or not account.active:
        raise Forbidden("Log in first.")
    return with_role(account, roles) if roles else account


def with_role(account: Annotator, roles: Sequence[Role]) -> Annotator:
    """The account, if it has one of the roles. Raises Forbidden."""
    if account.role not in roles:
        raise Forbidden(f"This needs the role {' or '.join(roles)}.")
    return account


class Logins:
    """Checks passwords and opens sessions.

    One password is checked at a time, in a thread: so the limit cannot be outrun by parallel guesses, a flood of them
    takes neither the memory (64 MiB a hash) nor the threads of the annotators' requests.
    """

    def __init__(
        self, store: Store, tries_a_minute: int = TRIES_A_MINUTE, session_seconds: int = SESSION_SECONDS
    ) -> None:
        self.store = store
        self.session_seconds = session_seconds
        self._tries = RateLimitItemPerMinute(tries_a_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self.turn = CapacityLimiter(1)
        self._decoy = hash_password(secrets.token_hex())

    async def open(self, name: str, password: str, address: str, earlier: str | None = None) -> tuple[Annotator, str]:
        """The account and a new session's token; the browser's `earlier` one ends. Raises BadLogin, TooManyTries."""
        self._check_tries(name, address)
        return await to_thread.run_sync(self._open, name, password, address, earlier, limiter=self.turn)

    def begin(self, account: Annotator, earlier: str | None = None) -> str:
        """A new session's token; the browser's `earlier` one ends."""
        if earlier:
            self.close(earlier)
        token = secrets.token_urlsafe(32)
        self.store.annotators.open_session(account, token_hash(token), self.session_seconds)
        return token

    def close(self, token: str) -> None:
        """End the session of that token."""
        self.store.annotators.close_session(token_hash(token))

    def _open(self, name: str, password: str, address: str, earlier: str | None) -> tuple[Annotator, str]:
        self._check_tries(name, address)
        account = self.store.annotators.find(name)
        known = account is not None and account.active and bool(account.password_hash)
        # An unknown name costs as much time as a wrong password, so that names cannot be guessed.
        matches = password_matches(account.password_hash if account and known else self._decoy, password)
        if account is None or not known or not matches:
            for key in self._keys(name, address):
                self._limiter.hit(self._tries, *key)
            raise BadLogin("Name or password is wrong; try again.")
        return account, self.begin(account, earlier)

    def _check_tries(self, name: str, address: str) -> None:
        if not all(self._limiter.test(self._tries, *key) for key in self._keys(name, address)):
            raise TooManyTries("Too many wrong passwords; wait a minute, then try again.")

    def _keys(self, name: str, address: str) -> list[tuple[str, str]]:
        account = self.store.annotators.find(name)
        # An account has two names (name and id) and any case: its id is the one key; unknown names share none.
        return [("account", account.id if account else token_hash(name.casefold())), ("address", address)]
