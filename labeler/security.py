"""What every answer and every request must satisfy, whoever asks: headers, origin, size. Pure ASGI, no database."""

import json
import re
from collections.abc import Collection, Mapping

from anyio import move_on_after
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio needs 'unsafe-inline' (its config is an inline script) and 'unsafe-eval' (its HTML component compiles
# templates), so this policy mainly stops framing and anything that would call another host.
CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # "no-referrer" would make browsers send "Origin: null" with our own forms
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CACHED = ("/app/assets/", "/app/static/", "/ops/assets/", "/ops/static/", "/study/assets/", "/study/static/")
# Only where the browser came by https: it would not find a plain http server again.
TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PROBES = ("/healthz", "/readyz")  # whoever watches the server may call it as they like
PORT = re.compile(r":[0-9]*$")
BODY_SECONDS, BYTES_A_SECOND = (
    20.0,
    16 * 1024,
)  # how long a body may take to arrive: some time, and at least at that pace


class SecureHeaders:
    """Adds the headers to every answer. Gradio's own assets, which hold no data, may be cached."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cached = scope["path"].startswith(CACHED)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if not (cached and name == "Cache-Control"):
                        headers[name] = value
                if scope["scheme"] == "https":
                    headers[TRANSPORT[0]] = TRANSPORT[1]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class RequestGuard:
    """Refuses a request for another host than `hosts`, if any are named, and a state-changing one that another site sent, or
    of which the body has more than `limit` bytes, does not come, or is JSON that cannot be stored.

    `limits`: the beginnings of paths with another limit.
    """

    def __init__(
        self, app: ASGIApp, limit: int, limits: Mapping[str, int] | None = None, hosts: Collection[str] = (),
        body_seconds: float = BODY_SECONDS,
    ) -> None:  # fmt: skip
        self.app = app
        self.limit = limit
        self.limits = limits or {}
        self.hosts = hosts
        self.body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None and scope["method"] not in SAFE_METHODS:
            body = await self._read(scope, headers, receive)
            if isinstance(body, bytes):
                receive = replay(body, receive)
            else:
                refusal = body
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Why nothing but the head of the request is looked at."""
        if self.hosts and host_of(headers) not in self.hosts and scope["path"] not in PROBES:
            return _refuse(421, "bad_request", "This server is called by another name.")
        if scope["method"] not in SAFE_METHODS and not same_origin(headers):
            return _refuse(403, "forbidden", "This request came from another site.")
        return None

    async def _read(self, scope: Scope, headers: Headers, receive: Receive) -> bytes | JSONResponse:
        """The whole body, or why it is refused, as soon as that is known."""
        limit = next((own for path, own in self.limits.items() if scope["path"].startswith(path)), self.limit)
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 12 or int(declared) > limit:
            return _too_large(limit)
        body, more = b"", True
        with move_on_after(self.body_seconds + int(declared) / BYTES_A_SECOND):
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limit or message["type"] == "http.disconnect":
                    return _too_large(limit)
        if more:
            return _refuse(408, "too_slow", "The request took too long to arrive; send it again.")
        if "json" in headers.get("content-type", "").lower() and not is_storable(body):
            return _refuse(
                422, "bad_request", "The request is malformed: a text has half a character (a lone surrogate)."
            )
        return body


def is_storable(body: bytes) -> bool:
    """Whether no text of the JSON document has half a character; what is no JSON is for others to refuse."""
    if body.isascii() and b"\\u" not in body:
        return True
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except (ValueError, RecursionError):
        pass
    return True


def host_of(headers: Headers) -> str:
    """The name by which the server is called, without the port."""
    return PORT.sub("", headers.get("host", "")).lower()


def same_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of this host, or from a program that is not a browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin, referer = headers.get("origin"), headers.get("referer")
    if origin is None and referer is not None:
        origin = "/".join(referer.split("/")[:3])
    # The scheme is not compared: behind a proxy that ends TLS this server does not know its own.
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _too_large(limit: int) -> JSONResponse:
    return _refuse(413, "too_large", f"The request is too large (more than {limit} bytes).")


def _refuse(status: int, code: str, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence, "code": code}, status, headers={"Connection": "close"})


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then whatever comes."""
    unread = True

    async def replayed() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
