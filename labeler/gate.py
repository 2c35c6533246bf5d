"""Who may enter which address, decided in one place before any route runs. Pure ASGI."""

import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from labeler.accounts import COOKIE, IDLE_SECONDS, account_of, token_hash
from labeler.failures import failure
from labeler.throttle import by_address
from labeler.turns import Turns
from labeler.turnstile import TooManyTries
from labeler.worker_tokens import PATH, WorkerTokens
from preferences.records import Annotator, Role
from preferences.store import Store

PUBLIC = ("/login", "/logout", "/join", "/favicon.ico", "/manifest.json", "/healthz", "/readyz")
# What the pages need of Gradio's hundred routes; every other one (uploads, files, API pages, monitoring, run history,
# deep links, proxies, code generation, the queue, ...) is shut, also to those who are logged in.
# Its own files have such names; at others (a zero byte, more than a file system takes) it fails.
GRADIO_GET = re.compile(r"/config|/theme\.css|/(assets|static)/[A-Za-z0-9._/@+~-]{1,200}")
GRADIO_POST = re.compile(r"/gradio_api/run/predict")  # events with queue=False; nothing here needs the queue
NOTED_MOST = 10_000  # sessions of which it is remembered when their use was noted


class Gate:
    """Finds whose session the request belongs to (`request.state.account`) and lets it through, or not. The routes of
    workers on other hosts open to their tokens alone (`request.state.worker`), which open no other.

    `mounts`: path of a mounted Gradio app -> the names of its pages; `events`: those whose pages call Python. `roles`:
    path -> the roles that may enter; any account may enter the others. What is not PUBLIC needs a session, of which the
    last use is noted ten times in `idle_seconds`.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: Store,
        mounts: Mapping[str, Sequence[str]],
        roles: Mapping[str, Sequence[Role]],
        events: Collection[str] = (),
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.app = app
        self.store = store
        self.mounts = mounts
        self.roles = roles
        self.events = events
        self.idle_seconds = idle_seconds
        self._noted: dict[str, float] = {}
        self._turns = Turns("sessions")
        self._tokens = WorkerTokens(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if scope["path"].startswith(PATH):
            refusal = await self._no_worker(request)
            await (refusal or self.app)(scope, receive, send)
            return
        token = request.cookies.get(COOKIE)
        account = account_of(self.store, token, self.idle_seconds)
        request.state.account = account
        if token and account:
            await self._note_use(token_hash(token))
        refusal = self._refusal(request, account)
        await (refusal or self.app)(scope, receive, send)

    async def _no_worker(self, request: Request) -> Response | None:
        """Why whoever asks does not get to the routes of workers, to which no session is a key and a token the only one."""
        try:
            worker = self._tokens.of(request.headers, by_address(request.scope) or "")
        except TooManyTries as error:
            return failure(429, "too_many", str(error))
        if worker is None:
            return failure(401, "token", "This needs a worker's token; `labeler worker-token add` makes one.")
        request.state.worker = worker
        with suppress(sqlite3.OperationalError):
            await self._turns.take(self.store.worker_tokens.note_use, worker)
        return None

    async def _note_use(self, session: str) -> None:
        now = self.store.clock()
        if now - self._noted.get(session, 0.0) < self.idle_seconds / 10:
            return
        if len(self._noted) >= NOTED_MOST:
            self._noted.clear()
        self._noted[session] = now
        with suppress(sqlite3.OperationalError):  # a full disk must not keep anybody from reading
            await self._turns.take(self.store.annotators.note_use, session)

    def _refusal(self, request: Request, account: Annotator | None) -> Response | None:
        path = request.scope["path"]
        mount = next((mount for mount in self.mounts if path == mount or path.startswith(f"{mount}/")), None)
        if mount and not self._is_needed(request.method, mount, path.removeprefix(mount)):
            return failure(404, "unknown", "There is nothing at this address.")
        if path in PUBLIC:
            return None
        if account is None:
            return _to_login(request)
        if mount and account.role not in self.roles.get(mount, (account.role,)):
            return failure(403, "forbidden", f"This page needs the role {' or '.join(self.roles[mount])}.")
        page = f"{path}/" if path == mount else path.removesuffix("/")
        if mount and page not in (mount, path):
            # Gradio's own answer to /app/page/ forgets where it is mounted and sends to /page.
            return RedirectResponse(page, 307)
        return None

    def _is_needed(self, method: str, mount: str, path: str) -> bool:
        if method == "POST":
            return mount in self.events and bool(GRADIO_POST.fullmatch(path))
        if method not in ("GET", "HEAD"):
            return False
        return path.strip("/") in self.mounts[mount] or bool(GRADIO_GET.fullmatch(path))


def _to_login(request: Request) -> Response:
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if not wants_page and request.scope["path"] != "/":
        return failure(401, "login", "Log in first.")
    path = request.scope["path"]
    return RedirectResponse(f"/login?next={quote(path)}" if path != "/" else "/login", 303)
