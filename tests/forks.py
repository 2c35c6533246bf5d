"""Processes that are forked from one that has imported everything once, so that a start takes milliseconds."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.conftest import ROOT


class Forks:
    """`program` reads a line of JSON, forks a process of it, and prints that one's pid, again and again."""

    def __init__(self, program: str, log: Path) -> None:
        self.log, self.pids = log, list[int]()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        with log.open("w") as file:
            self.launcher = subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
                env=environment,
            )  # fmt: skip

    def start(self, options: dict[str, Any]) -> int:
        """One more process; its pid."""
        assert self.launcher.stdin is not None and self.launcher.stdout is not None
        self.launcher.stdin.write(json.dumps(options) + "\n")
        self.launcher.stdin.flush()
        while not (said := self.launcher.stdout.readline().strip()).isdigit():
            assert said or self.launcher.poll() is None, self.log.read_text()
        self.pids.append(int(said))
        return self.pids[-1]

    def close(self) -> None:
        """End all of them."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.launcher.kill()
        self.launcher.communicate()
