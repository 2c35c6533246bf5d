"""What stands before every request: how many connections there may be, and how long and large the head of a request.

uvicorn waits for ever for a head, whatever its size, and for a client to read its answer.
"""

import resource
from asyncio import TimerHandle
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from labeler.failures import failure
from labeler.pace import network

FILES, FILES_KEPT = 65_536, 512  # open at once, and how many of these stay for the database, the log and the pages


def configured(app: ASGIApp, entrance: "Entrance", **named: Any) -> uvicorn.Config:
    """How uvicorn serves the app to whom the entrance lets in; `named`: other settings of uvicorn."""
    # `proxy_headers`: uvicorn's own would believe every program on this machine; labeler.proxy believes whom it is told to.
    return uvicorn.Config(
        app, http=partial(Connection, entrance=entrance),  # type: ignore[arg-type]
        ws="none", log_config=None, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        **named,
    )  # fmt: skip


def most_connections() -> int:
    """How many connections this process has room for; it may have as many open files from now on as the system allows."""
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if most != resource.RLIM_INFINITY and most < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            most = wanted
    most = FILES if most == resource.RLIM_INFINITY else most
    return max(most // 2, most - FILES_KEPT)


@dataclass(slots=True)
class Entrance:
    """How many connections there may be, and how patient the server is. Used by one thread, the event loop's.

    `most`: of all addresses; `most_here`: of one (of IPv6: one /64), at most half of them all. `proxies`: addresses or
    networks through which everybody comes, so that they count as nobody. `head_seconds`: until the head of a request is
    there; `head_bytes`: of it, and of all that surrounds a body; `unread_seconds`: in which a client must read something.
    """

    most: int
    most_here: int
    proxies: Collection[str] = ()
    head_seconds: float = 20.0
    head_bytes: int = 64 * 1024
    unread_seconds: float = 60.0
    open: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count one more connection of the address, unless that would be too many."""
        if self.open.total() >= self.most:
            return False
        here = network(address)
        if self.open[here] >= min(self.most_here, self.most // 2) and not self._is_proxy(address):
            return False
        self.open[here] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted is over."""
        here = network(address)
        self.open[here] -= 1
        if not self.open[here]:
            del self.open[here]

    def _is_proxy(self, address: str) -> bool:
        with suppress(ValueError):
            found = ip_address(address)
            return any(found in ip_network(proxy) for proxy in self.proxies)
        return False


class HeadTooLarge(Exception):
    """The head of a request is longer than any that is meant."""


class Connection(HttpToolsProtocol):
    """One connection, held to the limits of an `entrance`."""

    def __init__(self, *arguments: Any, entrance: Entrance, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.entrance = entrance
        self._entered = False
        self._around = 0  # bytes since the last message that were part of no body
        self._head_due: TimerHandle | None = None
        self._reading_due: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Somebody connects."""
        super().connection_made(transport)
        self._entered = self.entrance.enter(self._address)
        if self._entered:
            self._expect_head()
        else:
            self._refuse(429, "slow_down", "There are too many connections; close some, or wait, then try again.")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._head_came()
        self._goes_on()
        if self._entered:
            self.entrance.leave(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something arrives: of a head, of a body, or of what surrounds it (chunk sizes, trailers)."""
        self._around += len(data)
        super().data_received(data)
        if self._around > self.entrance.head_bytes:
            self._too_large()
        elif self._is_idle():
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head of a request is there. Raises HeadTooLarge."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.entrance.head_bytes:
            self._too_large()
            raise HeadTooLarge
        self._head_came()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        self._around -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of a request is there."""
        self._around = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client has not read what was sent."""
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has read most of it."""
        super().resume_writing()
        self._goes_on()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """What came is no HTTP."""
        self._refuse(400, "bad_request", "The request is malformed.")

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(self.entrance.head_seconds, self.transport.close)

    def _head_came(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _look_again(self, unread: int) -> None:
        self._reading_due = self.loop.call_later(self.entrance.unread_seconds, self._check_reading, unread)

    def _check_reading(self, before: int) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread < before:
            self._look_again(unread)
        else:
            self.transport.abort()

    def _goes_on(self) -> None:
        if self._reading_due is not None:
            self._reading_due.cancel()
            self._reading_due = None

    def _too_large(self) -> None:
        self._refuse(
            431, "too_large", f"The head of the request is too large (more than {self.entrance.head_bytes} bytes)."
        )

    def _refuse(self, status: int, code: str, sentence: str) -> None:
        """Close the connection, and say why unless an answer is under way."""
        if self.transport.is_closing():
            return
        if self._is_idle():
            answer = failure(status, code, sentence)
            lines = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
            self.transport.write(
                b"".join([STATUS_LINE[status], *lines, b"connection: close\r\n\r\n", bytes(answer.body)])
            )
        self.transport.close()
