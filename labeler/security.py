"""What every answer and every request must satisfy, whoever asks: headers, origin, size. Pure ASGI, no database."""

from collections.abc import Mapping

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
    """Refuses a state-changing request that another site sent, and a body of more than `limit` bytes.

    `limits`: the beginnings of paths with another limit.
    """

    def __init__(self, app: ASGIApp, limit: int, limits: Mapping[str, int] | None = None) -> None:
        self.app = app
        self.limit = limit
        self.limits = limits or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        if not same_origin(Headers(scope=scope)):
            await _refuse(403, "forbidden", "This request came from another site.")(scope, receive, send)
            return
        limit = next((own for path, own in self.limits.items() if scope["path"].startswith(path)), self.limit)
        body = await _read(scope, receive, limit)
        if body is None:
            sentence = f"The request is too large (more than {limit} bytes)."
            await _refuse(413, "too_large", sentence)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


def same_origin(headers: Headers) -> bool:
    """Whether the request comes from a page of this host, or from a program that is not a browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    # The scheme is not compared: behind a proxy that ends TLS this server does not know its own.
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _refuse(status: int, code: str, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence, "code": code}, status, headers={"Connection": "close"})


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it is known to be longer than `limit` or not to come."""
    declared = Headers(scope=scope).get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 12 or int(declared) > limit:
        return None
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit or message["type"] == "http.disconnect":
            return None
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then whatever comes."""
    unread = True

    async def replayed() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
