"""Who may come in: passwords, sessions, roles, and the limit on guessing."""

import hashlib
import secrets
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from labeler.strength import is_guessable
from labeler.turnstile import TooManyTries, Turnstile
from preferences.errors import RankloopError
from preferences.records import Annotator, Role
from preferences.store import Store

COOKIE = "rankloop_session"
SESSION_SECONDS, IDLE_SECONDS = 8 * 3600, 3600
TRIES_A_MINUTE, LINKS_A_MINUTE = 5, 20
PASSWORD_MIN, PASSWORD_MAX = 8, 1024
TOKEN_MOST = 200
OWNERS: tuple[Role, ...] = ("researcher", "admin")  # who may see and change whole studies


class BadPassword(RankloopError):
    """The new password is too short or too long."""


class GuessablePassword(BadPassword):
    """The new password is one of those that are tried first."""


class BadLogin(RankloopError):
    """Name and password do not belong together, or the account is not active."""


class Forbidden(RankloopError):
    """The account's role does not allow this."""


def hash_password(password: str, hasher: PasswordHasher | None = None, name: str = "") -> str:
    """The argon2 hash to be stored. `name`: of the account. Raises BadPassword, GuessablePassword."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise BadPassword(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters; choose another one.")
    if is_guessable(password, name):
        raise GuessablePassword("This password is easy to guess; choose another one, such as several words.")
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


def account_of(store: Store, token: str | None, idle_seconds: float = IDLE_SECONDS) -> Annotator | None:
    """Whose session the token opens, or None; one that nobody has used for so long opens nothing."""
    return store.annotators.of_session(token_hash(token), idle_seconds) if token else None


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

    One password is checked at a time, so that the limit cannot be outrun by parallel guesses.
    """

    def __init__(
        self, store: Store, tries_a_minute: int = TRIES_A_MINUTE, session_seconds: int = SESSION_SECONDS
    ) -> None:
        self.store = store
        self.session_seconds = session_seconds
        self._tries, self._links = RateLimitItemPerMinute(tries_a_minute), RateLimitItemPerMinute(LINKS_A_MINUTE)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._turnstile = Turnstile()
        self._decoy = PasswordHasher().hash(secrets.token_hex())

    async def open(self, name: str, password: str, address: str, earlier: str | None = None) -> tuple[Annotator, str]:
        """The account and a new session's token; the browser's `earlier` one ends. Raises BadLogin, TooManyTries."""
        self._check_tries(name, address)
        return await self._turnstile.take(self._key(name), self._open, name, password, address, earlier)

    async def join(self, account: Annotator, link: str, password: str, earlier: str | None = None) -> str | None:
        """Set the password of whom the link with that token invites; a new session's token, or None if the link is over.

        Raises BadPassword, TooManyTries.
        """
        return await self._turnstile.take(account.id, self._join, account, link, password, earlier)

    def close(self, token: str) -> None:
        """End the session of that token."""
        self.store.annotators.close_session(token_hash(token))

    def invited(self, token: str, address: str) -> Annotator | None:
        """Whom the link with that token invites, or None. Raises TooManyTries if the address has tried too many others."""
        self._check(self._links, [("link", address)])
        fits = token.isascii() and 0 < len(token) <= TOKEN_MOST
        account = self.store.invites.find(token_hash(token)) if fits else None
        if account is None:
            self._limiter.hit(self._links, "link", address)
        return account

    def _open(self, name: str, password: str, address: str, earlier: str | None) -> tuple[Annotator, str]:
        self._check_tries(name, address)
        account = self.store.annotators.find(name)
        known = account is not None and account.active and bool(account.password_hash)
        # An unknown name costs as much time as a wrong password, so that names cannot be guessed.
        matches = password_matches(account.password_hash if account and known else self._decoy, password)
        if account is None or not known or not matches:
            for key in self._keys(name, address):
                self._limiter.hit(self._tries, *key)
            # Also of an unknown name: what is written to the disk takes time that can be measured.
            self.store.events.add("", "login refused", account.id if account else "", {})
            raise BadLogin("Name or password is wrong; try again.")
        return account, self._begin(account, earlier)

    def _join(self, account: Annotator, link: str, password: str, earlier: str | None) -> str | None:
        password_hash = hash_password(password, name=account.name)
        joined = self.store.invites.use(token_hash(link), password_hash)
        return self._begin(joined, earlier) if joined else None

    def _begin(self, account: Annotator, earlier: str | None) -> str:
        """A new session's token; the browser's `earlier` one ends."""
        if earlier:
            self.close(earlier)
        token = secrets.token_urlsafe(32)
        self.store.annotators.open_session(account, token_hash(token), self.session_seconds)
        return token

    def _check_tries(self, name: str, address: str) -> None:
        self._check(self._tries, self._keys(name, address))

    def _check(self, limit: RateLimitItem, keys: Sequence[tuple[str, str]]) -> None:
        if not all(self._limiter.test(limit, *key) for key in keys):
            raise TooManyTries("Too many wrong passwords or links; wait a minute, then try again.")

    def _keys(self, name: str, address: str) -> list[tuple[str, str]]:
        return [("account", self._key(name)), ("address", address)]

    def _key(self, name: str) -> str:
        """What an account is counted by: it has two names (name and id) and any case; unknown names share none."""
        account = self.store.annotators.find(name)
        return account.id if account else token_hash(name.casefold())
