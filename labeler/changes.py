"""How often an account may take an answer back or open an old one again: each time adds rows that stay for ever."""

from starlette.types import Scope

from labeler.pace import Pace

CHANGES = ("/api/undo", "/api/reopen")
A_MINUTE, AT_ONCE = 20, 2000  # more than anybody does all day, and than anybody does in an hour


def pace_of_changes() -> Pace:
    """AT_ONCE of them, and then A_MINUTE."""
    return Pace(A_MINUTE, reserve=60.0 * AT_ONCE / A_MINUTE)


def by_changes(scope: Scope) -> str | None:
    """The account, if it is about to change an answer."""
    account = scope.get("state", {}).get("account") if scope["path"] in CHANGES else None
    return account.id if account else None
