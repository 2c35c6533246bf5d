"""Logs each request: route, status, time, account. No address, query, cookie or body. Pure ASGI."""

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preferences.logs import note
from preferences.records import Annotator

UNSAID = ("/healthz", "/readyz")  # asked every few seconds; only failures are worth a line


class Visits:
    """`mounts`: where Gradio apps are; of these the mount alone is logged, and their scripts and styles not at all."""

    def __init__(self, app: ASGIApp, mounts: Collection[str] = ()) -> None:
        self.app = app
        self.mounts = tuple(mounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, path = time.perf_counter(), scope["path"]
        status = 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_see)
        finally:
            if status >= 400 or not (path in UNSAID or "/assets/" in path or "/static/" in path):
                account = scope.get("state", {}).get("account")
                note(
                    "request", logging.ERROR if status >= 500 else logging.INFO, method=scope["method"],
                    route=self.route(scope, path), status=status, ms=round(1000 * (time.perf_counter() - began), 1),
                    account=account.id if isinstance(account, Annotator) else None,
                )  # fmt: skip

    def route(self, scope: Scope, path: str) -> str:
        """The address as the program has it, with names in the place of ids; whatever else was asked for is "other"."""
        mount = next((mount for mount in self.mounts if path == mount or path.startswith(f"{mount}/")), None)
        return mount or str(getattr(scope.get("route"), "path", "other"))
