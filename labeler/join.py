"""Where an invitation leads: one plain page at which somebody sets the password of their account, once."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from labeler.accounts import (
    COOKIE,
    PASSWORD_MAX,
    PASSWORD_MIN,
    BadPassword,
    GuessablePassword,
    Logins,
)
from labeler.languages import strings_json
from labeler.login import BAD, HOME, address_of, fields_of, framed, with_session
from labeler.turnstile import TooManyTries
from preferences.records import Annotator

JOIN = """<p>%(text)s</p>
%(error)s<form method="post" action="join">
<input type="hidden" name="token" value="%(token)s">
<input type="hidden" name="name" value="%(name)s" autocomplete="username">
<label for="password">%(password)s</label>
<input id="password" name="password" type="password" autocomplete="new-password" required autofocus
minlength="%(min)s" maxlength="%(max)s">
<label for="again">%(again)s</label>
<input id="again" name="again" type="password" autocomplete="new-password" required>
<button type="submit">%(title)s</button>
</form>
"""


def join_routes(logins: Logins) -> APIRouter:
    """GET and POST /join. Whoever has the link needs no session; a link that is over changes nothing."""
    routes = APIRouter()

    @routes.get("/join")
    def ask(request: Request, token: str = "") -> Response:
        account = invited(request, logins, token)
        return account if isinstance(account, Response) else join_page(request, account, token)

    @routes.post("/join")
    async def join(request: Request) -> Response:
        fields = await fields_of(request)
        token, password = fields.get("token", ""), fields.get("password", "")
        account = invited(request, logins, token)
        if isinstance(account, Response):
            return account
        if password != fields.get("again"):
            return join_page(request, account, token, "join.differ", 422)
        try:
            session = await logins.join(account, token, password, request.cookies.get(COOKIE))
        except TooManyTries:
            return over_page(request, "join.too_many", 429)
        except BadPassword as error:
            mistake = "join.guessable" if isinstance(error, GuessablePassword) else "join.short"
            return join_page(request, account, token, mistake, 422)
        if session is None:
            return over_page(request)
        return with_session(RedirectResponse(HOME, 303), request, logins, session)

    return routes


def invited(request: Request, logins: Logins, token: str) -> Annotator | Response:
    """Whom the link invites, or the page that says why it invites nobody."""
    try:
        return logins.invited(token, address_of(request)) or over_page(request)
    except TooManyTries:
        return over_page(request, "join.too_many", 429)


def join_page(request: Request, account: Annotator, token: str, mistake: str = "", status: int = 200) -> Response:
    """The page that asks for the password, in the browser's language, with what was wrong with the last one."""
    page = strings_json(request)
    texts: dict[str, Any] = page["strings"]
    sizes = {"min": PASSWORD_MIN, "max": PASSWORD_MAX}
    parts = {
        "text": escape(texts["join.text"].format(name=account.name, **sizes)),
        "error": BAD % escape(texts[mistake].format(**sizes)) if mistake else "",
        "token": escape(token),
        "name": escape(account.name),
        "password": escape(texts["login.password"]),
        "again": escape(texts["join.again"]),
        "title": escape(texts["join.title"]),
        **sizes,
    }
    return framed(page, texts["join.title"], JOIN % parts, status)


def over_page(request: Request, why: str = "join.over", status: int = 410) -> Response:
    """The link is unknown, used or over, or too many were tried."""
    page = strings_json(request)
    return framed(page, page["strings"]["join.title"], BAD % escape(page["strings"][why]), status)
