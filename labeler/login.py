"""The front door: logging in and out, one plain page without scripts, and the session cookie."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import ValidationError

from labeler.accounts import COOKIE, BadLogin, Logins
from labeler.bodies import LoginBody
from labeler.failures import failure, sentence_of, status_and_code
from labeler.languages import strings_json
from labeler.throttle import by_address
from labeler.turnstile import TooManyTries

HOME = "/app/annotate/"

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1f5fbf"/>'
    '<g fill="#fff"><rect x="7" y="7" width="18" height="4" rx="2"/><rect x="7" y="14" width="13" height="4" rx="2"/>'
    '<rect x="7" y="21" width="8" height="4" rx="2"/></g></svg>'
)

FRAME = """<!doctype html>
<html lang="%(language)s" dir="%(direction)s">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%(title)s · Rankloop</title>
<link rel="icon" href="favicon.ico">
<style>
:root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --ink: #1b1f24; --quiet: #59636e; --line: #c8ced6;
  --accent: #1f5fbf; --on-accent: #fff; --bad: #b3261e; --bad-ground: #fdecea; }
@media (prefers-color-scheme: dark) { :root { --ground: #0f1216; --card: #181c22; --ink: #e8ebef; --quiet: #a0a9b4;
  --line: #3d4651; --accent: #7fb0ff; --on-accent: #0b1a30; --bad: #ffb4ab; --bad-ground: #3a1513; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { width: 100%%; max-width: 24rem; padding: 2rem 1.75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
h1 { margin: 0; font-size: 1.5rem; letter-spacing: -0.01em; }
p { margin: 0.25rem 0 0; color: var(--quiet); }
label { display: block; margin: 1.25rem 0 0.35rem; font-weight: 600; }
input, button { width: 100%%; min-height: 44px; font: inherit; border-radius: 8px; }
input { padding: 0.5rem 0.75rem; color: var(--ink); background: var(--ground); border: 1px solid var(--line); }
button { margin-top: 1.75rem; font-weight: 600; color: var(--on-accent); background: var(--accent); border: 0;
  cursor: pointer; }
input:focus-visible, button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.bad { margin-top: 1.25rem; padding: 0.6rem 0.75rem; color: var(--bad); background: var(--bad-ground);
  border-radius: 8px; }
</style>
</head>
<body>
<main>
<h1>Rankloop</h1>
%(main)s</main>
</body>
</html>
"""

LOGIN = """<p>%(text)s</p>
%(error)s<form method="post" action="login">
<input type="hidden" name="next" value="%(next)s">
<label for="name">%(name_label)s</label>
<input id="name" name="name" value="%(name)s" autocomplete="username" autocapitalize="none" spellcheck="false" required
%(focus_name)s>
<label for="password">%(password_label)s</label>
<input id="password" name="password" type="password" autocomplete="current-password" required%(focus_password)s>
<button type="submit">%(title)s</button>
</form>
"""
BAD = '<p class="bad" role="alert">%s</p>\n'


def login_page(
    request: Request, next_path: str, name: str = "", error: str = "", code: str = "", status: int = 200
) -> HTMLResponse:
    """The login page in the browser's language, with the sentence that says what went wrong.

    `code`: the kind of mistake, whose text in that language goes before `error`, if there is one.
    """
    page = strings_json(request)
    texts = page["strings"]
    error = texts.get(f"error.{code}", error)
    parts = {
        "title": escape(texts["login.title"]),
        "text": escape(texts["login.text"]),
        "name_label": escape(texts["login.name"]),
        "password_label": escape(texts["login.password"]),
        "error": BAD % escape(error) if error else "",
        "next": escape(local(next_path)),
        "name": escape(name),
        "focus_name": "" if name else "autofocus",
        "focus_password": " autofocus" if name else "",
    }
    return framed(page, texts["login.title"], LOGIN % parts, status)


def framed(page: dict[str, Any], title: str, main: str, status: int = 200) -> HTMLResponse:
    """A plain page; `page`: what `strings_json` gives; `main`: its HTML."""
    parts = {"language": page["language"], "direction": page["direction"], "title": escape(title), "main": main}
    return HTMLResponse(FRAME % parts, status)


def local(path: str) -> str:
    """`path` if it is an address on this server, else the annotators' page: a login must not lead to another site."""
    here = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if here and path.isascii() and path.isprintable() else HOME


def login_routes(logins: Logins) -> APIRouter:
    """GET and POST /login, POST /logout, / as the way to the pages, and what a browser asks of every site."""
    routes = APIRouter()

    @routes.get("/")
    def home() -> Response:
        return RedirectResponse(HOME, 303)

    @routes.get("/favicon.ico")
    def icon() -> Response:
        return Response(ICON, media_type="image/svg+xml")

    @routes.get("/manifest.json")
    def manifest() -> dict[str, str]:
        return {"name": "Rankloop", "start_url": "/"}

    @routes.get("/login")
    def ask(request: Request, next: str = HOME) -> Response:
        return login_page(request, next)

    @routes.post("/login")
    async def login(request: Request) -> Response:
        if kind_of(request) == "application/json":
            return await _json_login(request, logins)
        return await _form_login(request, logins)

    @routes.post("/logout")
    def logout(request: Request) -> Response:
        token = request.cookies.get(COOKIE)
        if token:
            logins.close(token)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    return routes


async def _json_login(request: Request, logins: Logins) -> Response:
    try:
        body = LoginBody.model_validate_json(await request.body())
    except ValidationError as error:
        return failure(422, "bad_request", sentence_of(error))
    account, token = await logins.open(body.name, body.password, address_of(request), request.cookies.get(COOKIE))
    return with_session(JSONResponse({"name": account.name, "role": account.role}), request, logins, token)


async def _form_login(request: Request, logins: Logins) -> Response:
    fields = await fields_of(request)
    next_path = local(fields.pop("next", HOME))
    name = fields.get("name", "")
    try:
        body = LoginBody.model_validate(fields)
        _, token = await logins.open(body.name, body.password, address_of(request), request.cookies.get(COOKIE))
    except ValidationError as error:
        return login_page(request, next_path, name, sentence_of(error), status=422)
    except (BadLogin, TooManyTries) as error:
        status, code = status_and_code(error)
        return login_page(request, next_path, name, str(error), code, status)
    return with_session(RedirectResponse(next_path, 303), request, logins, token)


def kind_of(request: Request) -> str:
    """The media type of the body."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form as our pages send it; of any other body, none: multipart ones bring files and character sets."""
    if kind_of(request) != "application/x-www-form-urlencoded":
        return {}
    async with request.form(max_fields=10) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def with_session(response: Response, request: Request, logins: Logins, token: str) -> Response:
    cookie: dict[str, Any] = {"httponly": True, "samesite": "strict", "path": "/", "max_age": logins.session_seconds}
    response.set_cookie(COOKIE, token, secure=request.url.scheme == "https", **cookie)
    return response


def address_of(request: Request) -> str:
    """Where the request comes from, as limits count it."""
    return by_address(request.scope) or ""
