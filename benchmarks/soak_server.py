"""The labeler of the soak, which is killed and started again on one port, and what is seen of it meanwhile."""

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.labeler_load import megabytes

SETTLED_SECONDS = 60.0  # of a server's life; its memory is compared with that after so long


@dataclass(slots=True)
class Seen:
    """What happened. `acknowledged`: (annotator's number, nonce) -> (id of the row, tiers, when that was)."""

    acknowledged: dict[tuple[int, str], tuple[str, list[list[str]], float]] = field(default_factory=dict)
    submits: list[float] = field(default_factory=list)
    """Seconds, of those that a living server answered at the first try."""
    errors: list[str] = field(default_factory=list)
    looks: int = 0
    backups: list[tuple[Path, float]] = field(default_factory=list)
    """With the moment at which each was begun."""
    growth: list[float] = field(default_factory=list)
    """Megabytes by which the server grew in each life that was long enough."""
    outages: list[float] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)


class Server:
    """`labeler serve` on one port for all its lives."""

    def __init__(self, db: Path, seen: Seen) -> None:
        self.db, self.seen = db, seen
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.lives = 0
        self.ready = False
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it accepts connections."""
        words = ["-m", "labeler", "serve", "--db", str(self.db), "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = await program(words, stdout=asyncio.subprocess.PIPE)
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert b"ready" in line, "The labeler did not start."
        self.lives, self.ready, self.born = self.lives + 1, True, time.monotonic()

    async def kill(self) -> None:
        """As the kernel does it when memory is short; and again to life."""
        assert self.process is not None
        self.ready, died = False, time.monotonic()
        self.process.kill()
        await self.process.wait()
        self.seen.deaths["server"] += 1
        await self.start()
        self.seen.outages.append(time.monotonic() - died)

    async def watch_memory(self) -> None:
        """Note by how much each life grows after its first minute."""
        life, first = 0, 0.0
        while True:
            await asyncio.sleep(1)
            if not self.ready or time.monotonic() - self.born < SETTLED_SECONDS:
                continue
            assert self.process is not None
            now = megabytes(self.process.pid)
            if life != self.lives:
                life, first = self.lives, now
                self.seen.growth.append(0.0)
            self.seen.growth[-1] = max(self.seen.growth[-1], now - first)


async def program(words: list[str], **more: Any) -> asyncio.subprocess.Process:
    """A Python of its own."""
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    return await asyncio.create_subprocess_exec(sys.executable, *words, env=environment, **more)
