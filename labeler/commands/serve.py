"""`labeler serve`."""

import gc
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.settings import Settings
from preferences.cli import DEFAULT_DB
from preferences.disk import MB, Disk
from preferences.errors import RankloopError
from preferences.logs import BadLog, logging_to, note
from preferences.store import Store

if TYPE_CHECKING:
    from fastapi import FastAPI

GRACE_SECONDS = 20  # a submit may have to wait for another writer, or for a slow disk
KEEP_ALIVE_SECONDS = 75  # longer than most comparisons take: an answer need not wait for a new connection

SWITCH_SECONDS = 0.0001
GARBAGE_OBJECTS = 50_000  # made and not yet freed, before Python looks for cycles among the newest


class BadAddress(RankloopError):
    """The host or port cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Serve the labeler until interrupted; print its address when it accepts connections."""

    db: Path = DEFAULT_DB
    """The database; made if it does not exist."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 lets other machines connect."""
    port: int = 7860
    """The port to listen on; 0 takes a free one."""
    log: Path | None = None
    """Where to log, as JSON lines without secrets and texts; default beside the database, as NAME.log."""
    log_mb: float = 10
    """Megabytes after which a new log is begun; five older ones are kept."""
    settings: Settings = field(default_factory=Settings)
    """Sessions, limits, and what stands between browser and server."""

    def run(self) -> None:
        """Bind first: a port in use is known at once, before anything slow is imported."""
        if self.log_mb <= 0:
            raise BadLog(f"--log-mb must be above 0, not {self.log_mb}.")
        listener = bind(self.host, self.port)
        store = Store(self.db)
        warning = store.check()
        if warning:
            print(warning, file=sys.stderr)
        disk = Disk(self.db.resolve().parent, self.settings.low_disk_mb * MB)
        from labeler.app import build_app
        from labeler.rendering import Helper, Rendering
        from labeler.retention import retaining
        from labeler.watch import watching

        helper = Helper()
        helper.start()
        log = logging_to(self.log or self.db.with_suffix(".log"), int(self.log_mb * MB))
        with log, watching(store, disk), retaining(store):
            serve(build_app(store, self.settings, Rendering(helper)), listener, store, self.settings)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises BadAddress."""
    if not 0 <= port <= 65535:
        raise BadAddress(f"A port is a number from 0 to 65535, not {port}; give another --port.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)  # type: ignore[arg-type]
    except OSError as error:
        reason = error.strerror or error
        raise BadAddress(f"Cannot listen on {host}, port {port} ({reason}); give another --host or --port.") from error
    # asyncio does this for sockets that it opens itself; without it each answer waits 40 ms for a delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(app: "FastAPI", listener: socket.socket, store: Store, settings: Settings | None = None) -> None:
    """Serve until SIGINT or SIGTERM; then finish the requests that are under way, and have all that was said on the disk."""
    import uvicorn

    from labeler.connections import Entrance, configured, most_connections

    settings = settings or Settings()
    entrance = Entrance(most_connections(), settings.connections_here, settings.trusted_proxies)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            unburden()
            if self.started:
                note("ready")
                print(f"Labeler ready on {url(listener)}", flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            note("drain", requests=len(self.server_state.tasks))
            await super().shutdown(sockets)

    patience = {"timeout_graceful_shutdown": GRACE_SECONDS, "timeout_keep_alive": KEEP_ALIVE_SECONDS}
    server = Announcing(configured(app, entrance, **patience))

    def end(*_: object) -> None:
        server.should_exit = True

    # Before uvicorn listens for them, and after: it raises the signal again at its end, for whoever started it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    server.run(sockets=[listener])
    store.settle()
    note("stop")


def unburden() -> None:
    """Short waits between threads, and no search for garbage among what stays.

    The threads of a request hand over to each other many times; at Python's own 5 ms each may wait that long for a thread
    that computes. What the libraries made at their import is never garbage, and looking at all of it takes 0.1 s.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def url(listener: socket.socket) -> str:
    """Where a browser on this machine finds what listens."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
