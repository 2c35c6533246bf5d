"""Whose request it is, for the routes of the API."""

from typing import Annotated

from fastapi import Depends, Request

from labeler.accounts import Forbidden
from preferences.records import Annotator


async def who(request: Request) -> Annotator:
    """The account that the gate let in. Raises Forbidden if a route was reached without it.

    `async`, although nothing is awaited: FastAPI calls any other dependency in a thread.
    """
    account = getattr(request.state, "account", None)
    if not isinstance(account, Annotator):
        raise Forbidden("Log in first.")
    return account


Account = Annotated[Annotator, Depends(who)]
