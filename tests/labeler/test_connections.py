"""Floods of connections, heads and bodies, by whoever has no account: each ends, and nobody else waits for it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from labeler.commands.serve import bind
from labeler.connections import Entrance, configured, most_connections
from labeler.security import RequestGuard
from tests.labeler.conftest import PASSWORD
from tests.labeler.mortal import Mortal, filled
from tests.waiting import until

pytestmark = pytest.mark.security
PATIENCE = 10.0  # until what should happen at once must have happened, on a busy machine
MB = 1 << 20


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """How long the body is; /much: 64 MB, /once: in one piece."""
    assert scope["type"] == "http"
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = {"/much": bytes(MB), "/once": bytes(64 * MB)}.get(scope["path"]) or json.dumps(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64 if scope["path"] == "/much" else 1):
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})


class Served:
    """An app behind an entrance, as `labeler serve` has it, in a thread."""

    def __init__(self, app: ASGIApp, entrance: Entrance) -> None:
        self.entrance = entrance
        self.listener = bind("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.server = uvicorn.Server(configured(app, entrance))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()
        until(lambda: self.server.started, PATIENCE)

    def connect(self, said: bytes = b"", read_buffer: int = 0) -> socket.socket:
        """A connection on which that was said."""
        client = socket.socket()
        if read_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_buffer)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", self.port))
        with suppress(OSError):  # it may be refused meanwhile
            client.sendall(said)
        return client


@pytest.fixture
def served() -> Iterator[Callable[..., Served]]:
    """Servers that end with the test. `app`: by default `count`; the rest are limits."""
    made: list[Served] = []

    def make(app: ASGIApp = count, **limits: Any) -> Served:
        made.append(Served(app, Entrance(**{"most": 100, "most_here": 50, **limits})))
        return made[-1]

    yield make
    for one in made:
        one.server.should_exit = one.server.force_exit = True
        one.thread.join()


def everything(client: socket.socket) -> bytes:
    """What is read until the other side closes."""
    found = b""
    try:
        while piece := client.recv(MB):
            found += piece
    except ConnectionResetError:
        pass
    return found


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("before", "drop"),
    [(b"", b""), (b"", b"a"), (b"", b"\r\n"), (WHOLE, b"a"), (WHOLE, b"\r\n")],
    ids=["nothing", "a little", "empty lines", "a little after an answer", "empty lines after an answer"],
)
def test_a_head_that_does_not_come_ends_the_connection(
    served: Callable[..., Served], before: bytes, drop: bytes
) -> None:
    """However often a little of it comes."""
    server = served(head_seconds=0.4)
    client, began = server.connect(before), time.monotonic()
    if before:
        assert status_of(client.recv(MB)) == 200
    if drop == b"a":
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
    client.settimeout(0.05)
    closed = False
    while not closed:
        assert time.monotonic() - began < PATIENCE, "The connection is still open."
        try:
            client.sendall(drop)
            closed = client.recv(MB) == b""
        except TimeoutError:
            pass
        except (ConnectionResetError, BrokenPipeError):
            closed = True
    assert time.monotonic() - began > 0.3
    until(lambda: not server.entrance.open, PATIENCE)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
        b"\r\n" * 40_000,
    ],
    ids=["address", "header", "headers", "empty lines"],
)
def test_a_large_head_is_refused(served: Callable[..., Served], head: bytes) -> None:
    answer = everything(served().connect(head))
    assert status_of(answer) == 431
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_large"
    assert b"connection: close" in answer and b"content-security-policy" in answer


@pytest.mark.parametrize("piece", [b"X: " + b"a" * 1000 + b"\r\n", b"a" * 1000], ids=["trailers", "one trailer"])
def test_what_follows_a_body_is_limited_too(served: Callable[..., Served], piece: bytes) -> None:
    client = served().connect(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
    sent = 0
    with pytest.raises(OSError):
        while sent < 50 * MB:
            client.sendall(piece)
            sent += len(piece)
    assert sent < 50 * MB


def test_a_large_body_is_not_taken_for_a_head(served: Callable[..., Served]) -> None:
    server = served()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE) as client:
        assert client.post("/", content=bytes(3 * MB)).json() == 3 * MB
        assert client.post("/", content=(bytes(100_000) for _ in range(20))).json() == 2_000_000
        assert client.get("/", headers={"x": "a" * 60_000}).json() == 0
    one, answers = server.connect(WHOLE * 3), b""
    while answers.count(b"HTTP/1.1 200") < 3:
        answers += one.recv(MB)


@pytest.mark.smoke
def test_one_address_has_so_many_connections_and_the_others_have_theirs(served: Callable[..., Served]) -> None:
    server = served(most_here=5)
    crowd = [server.connect() for _ in range(5)]
    until(lambda: server.entrance.open["127.0.0.1"] == 5, PATIENCE)
    answer = everything(server.connect(WHOLE))
    assert status_of(answer) == 429 and json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "slow_down"
    assert server.entrance.enter("198.51.100.7")
    crowd.pop().close()
    until(lambda: server.entrance.open["127.0.0.1"] == 4, PATIENCE)
    assert status_of(server.connect(WHOLE).recv(MB)) == 200


@pytest.mark.smoke
def test_everybody_comes_through_a_proxy() -> None:
    entrance = Entrance(most=10, most_here=3, proxies=("10.0.0.0/8", "2001:db8::1"))
    assert [entrance.enter("10.1.2.3") for _ in range(6)] == [True] * 6
    assert [entrance.enter("198.51.100.7") for _ in range(4)] == [True] * 3 + [False]
    assert entrance.enter("2001:db8::1") and not entrance.enter("10.1.2.3"), "There is no room for anybody."
    entrance.leave("10.1.2.3")
    assert entrance.enter("203.0.113.66")


@pytest.mark.smoke
def test_one_address_never_has_more_than_half_of_all() -> None:
    entrance = Entrance(most=10, most_here=1000)
    assert [entrance.enter("198.51.100.7") for _ in range(6)] == [True] * 5 + [False]
    found = [entrance.enter(f"2001:db8::{number}") for number in range(6)]
    assert found == [True] * 5 + [False], "One network of IPv6 is one address."
    assert most_connections() >= 128


def test_whoever_reads_nothing_of_an_answer_is_cut_off(served: Callable[..., Served]) -> None:
    server = served(unread_seconds=0.3)
    client = server.connect(b"GET /much HTTP/1.1\r\n\r\n", read_buffer=65_536)
    until(lambda: server.entrance.open, PATIENCE)
    until(lambda: not server.entrance.open, PATIENCE)
    client.close()


def test_whoever_reads_slowly_gets_all_of_it(served: Callable[..., Served]) -> None:
    server = served(unread_seconds=0.3)
    client = server.connect(b"GET /once HTTP/1.1\r\nConnection: close\r\n\r\n", read_buffer=65_536)
    read, began = 0, time.monotonic()
    while piece := client.recv(MB):
        if read // (4 * MB) < (read + len(piece)) // (4 * MB):
            time.sleep(0.1)
        read += len(piece)
    assert read > 64 * MB and time.monotonic() - began > 1.0


@pytest.mark.smoke
def test_what_is_not_http_is_refused_in_one_sentence(served: Callable[..., Served]) -> None:
    for said in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"):
        answer = everything(served().connect(said))
        assert status_of(answer) == 400
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
            "error": "The request is malformed.", "code": "bad_request",
        }  # fmt: skip


def test_an_upgrade_to_a_websocket_is_an_ordinary_request(served: Callable[..., Served]) -> None:
    """Else the connection would be another one's, whose end nobody counts."""
    server = served()
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    client = server.connect(b"GET / HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
    assert status_of(client.recv(MB)) == 200
    client.close()
    until(lambda: not server.entrance.open, PATIENCE)


def test_an_address_is_written_in_ascii(served: Callable[..., Served]) -> None:
    for method in (b"GET", b"POST"):
        assert status_of(everything(served().connect(method + b" /?a=\xff\xfe HTTP/1.0\r\n\r\n"))) == 400


@pytest.mark.smoke
@pytest.mark.parametrize("head", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(served: Callable[..., Served], head: bytes) -> None:
    server = served(RequestGuard(count, limit=1000, body_seconds=0.3))
    client, began = server.connect(b"POST / HTTP/1.1\r\n" + head + b"\r\n\r\n"), time.monotonic()
    answer = everything(client)
    assert status_of(answer) == 408 and json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_slow"
    assert 0.2 < time.monotonic() - began < PATIENCE


@contextmanager
def frugal(db: Path) -> Iterator[Mortal]:
    """A server that may have 1,200 files open, and has not asked for that many yet."""
    server = Mortal(db, before="import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1200))\n")
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_a_flood_of_connections_keeps_nobody_else_out(tmp_path: Path) -> None:
    """1,500 logins of which nothing but the head comes, from one address; meanwhile somebody at another one works."""
    filled(tmp_path / "labels.db", 3).close()
    assert most_connections() > 1_600, "This test needs more open files (ulimit -n)."
    with frugal(tmp_path / "labels.db") as server:
        flood = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(1_500)]
        for client in flood:
            with suppress(OSError):
                client.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=elsewhere, base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE) as ann:
            assert ann.get("/healthz").status_code == 200
            assert ann.post("/login", json={"name": "ann 0", "password": PASSWORD}).status_code == 200
            task = ann.get("/api/next").json()["task"]
            tiers = [[response["id"]] for response in task["responses"]]
            said = {"comparison": task["comparison"], "lease": task["lease"], "tiers": tiers, "nonce": "nonce-0001"}
            assert ann.post("/api/submit", json=said).status_code == 200
        for client in flood:
            client.close()
