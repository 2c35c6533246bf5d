"""What lies between browser and server: which proxies are believed, and the path below which they publish the labeler."""

import re
from collections.abc import Collection, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

# Said by proxies of a request: only uvicorn's middleware below reads some of them; Gradio would take others from anybody.
SAID = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip|x-gradio-server|x-rankloop-root")
HOST = re.compile(rb"[A-Za-z0-9.\-:\[\]]{1,255}")
COOKIE_PATH = re.compile(rb"(?<=; )Path=/(?=;|$)", re.IGNORECASE)


class Proxied:
    """Believes X-Forwarded-For, -Proto and -Host of `trusted` addresses or networks, and nothing of the kind of others.

    `root`: "" or a path such as "/rank" below which a proxy publishes this server, whether it takes it off addresses or not;
    inside, there is no such path. Pure ASGI.
    """

    def __init__(self, app: ASGIApp, trusted: Collection[str] = (), root: str = "") -> None:
        self.app = app
        self.root = root
        self.believing = ProxyHeadersMiddleware(self._serve, list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        host = next((value for name, value in scope["headers"] if name == b"x-forwarded-host"), None)
        if host and client and client[0] in self.believing.trusted_hosts and HOST.fullmatch(host):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [(b"host", host), *others]
        await self.believing(scope, receive, send)  # type: ignore[arg-type]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [(name, value) for name, value in scope["headers"] if not SAID.fullmatch(name)]
        if not self.root:
            await self.app(scope, receive, send)
            return
        scope["headers"].append((b"x-rankloop-root", self.root.encode()))
        for name, root in (("path", self.root), ("raw_path", self.root.encode())):
            scope[name] = below(scope.get(name), root)

        async def send_below(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [self._outward(name, value) for name, value in message.get("headers", [])]
            await send(message)

        await self.app(scope, receive, send_below)

    def _outward(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """A header of an answer as a browser outside must read it."""
        if name.lower() == b"location" and value.startswith(b"/"):
            return name, self.root.encode() + value
        if name.lower() == b"set-cookie":
            return name, COOKIE_PATH.sub(b"Path=" + self.root.encode(), value)
        return name, value


class Rooted:
    """Tells the routes below which path they are found, as ASGI says it; Gradio makes its addresses of that."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self.app = app
        self.root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.root and scope["type"] == "http":
            scope = {**scope, "root_path": self.root, "path": self.root + scope["path"]}
        await self.app(scope, receive, send)


def address_outside(headers: Mapping[str, str]) -> str:
    """Where browsers find this server, as the headers of a page's own request say; "" if it is no page's."""
    origin = headers.get("origin", "")
    return origin + headers.get("x-rankloop-root", "") if origin else ""


def below(path: str | bytes | None, root: str | bytes) -> str | bytes | None:
    """The path without `root` before it, if it is there."""
    slash = "/" if isinstance(root, str) else b"/"
    if path == root:
        return slash
    if path is not None and path.startswith(root + slash):  # type: ignore[arg-type, operator]
        return path[len(root) :]
    return path
