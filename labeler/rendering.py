"""Model text to HTML beside the server: one helper process renders, each text once, so that nobody's answer waits for it.

Rendering is Python and takes milliseconds: in the server it would hold up every other request meanwhile.
"""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from labeler.markup import plain, render, visible
from labeler.turns import Turns

PATIENCE_SECONDS = 20.0  # a comparison of nine long texts takes a fraction of one
MOST_CHARACTERS = 16_000_000  # of HTML that is kept: about a thousand comparisons
NICENESS = 10
COMMAND = (sys.executable, "-m", "labeler.rendering")

Said = dict[str, str]  # {"text": what was said, ...}


class TooSlow(Exception):
    """The helper has not answered in time."""


class Helper:
    """A process that renders and nothing else. It ends when the server does, however that ends: its input is then over."""

    def __init__(self, patience: float = PATIENCE_SECONDS, command: Sequence[str] = COMMAND) -> None:
        self.patience = patience
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """The process that runs, or another one. Raises OSError."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self.process

    def stop(self) -> None:
        """End the process, if one runs."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def html(self, texts: Sequence[str]) -> list[str]:
        """Safe HTML of each. Raises OSError if the process is gone, TooSlow."""
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(texts).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], self.patience)[0]:
            raise TooSlow
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise BrokenPipeError("the helper ended")
        found: list[str] = json.loads(line)
        return found


class Rendering:
    """Safe HTML of texts, kept by their hash, the least recently used dropped first; safe to share between threads.

    `helper`: who renders; without one, or if it dies twice over the same texts, this process does.
    """

    def __init__(self, helper: Helper | None = None, most: int = MOST_CHARACTERS) -> None:
        self.helper = helper
        self.most = most
        self._kept: OrderedDict[bytes, str] = OrderedDict()
        self._size = 0
        self._guard, self._turn = threading.Lock(), threading.Lock()
        self._turns = Turns("rendering")

    def task(self, task: dict[str, Any]) -> dict[str, Any]:
        """The same task (or answer), each message and response with its "html". Waits for the helper."""
        self._add_html(said_in(task))
        return task

    def page(self, page: dict[str, Any]) -> dict[str, Any]:
        """The same page, its task with HTML, if there is one. Waits for the helper."""
        self._add_html(said_in(page["task"]))
        return page

    async def page_soon(self, page: dict[str, Any]) -> dict[str, Any]:
        """The same, while the event loop goes on."""
        missing = self._add_kept(said_in(page["task"]))
        if missing:
            await self._turns.take(self._add_html, missing)
        return page

    def _add_html(self, said: Iterable[Said]) -> None:
        missing = self._add_kept(said)
        if missing:
            with self._turn:
                self._render(self._add_kept(missing))

    def _add_kept(self, said: Iterable[Said]) -> list[Said]:
        """Give those their HTML whose texts are known; the others."""
        missing = []
        with self._guard:
            for one in said:
                key = _key(one["text"])
                if key in self._kept:
                    self._kept.move_to_end(key)
                    one["html"] = self._kept[key]
                else:
                    missing.append(one)
        return missing

    def _render(self, said: Sequence[Said]) -> None:
        texts = list({one["text"]: None for one in said})
        found = dict(zip(texts, self._html(texts), strict=True)) if texts else {}
        for one in said:
            one["html"] = found[one["text"]]
        with self._guard:
            for text, html in found.items():
                self._size += len(html) - len(self._kept.pop(_key(text), ""))
                self._kept[_key(text)] = html
            while self._size > self.most:
                self._size -= len(self._kept.popitem(last=False)[1])

    def _html(self, texts: Sequence[str]) -> list[str]:
        """A helper that died is started again, once: what it died of may lie in the texts."""
        for _ in range(2 if self.helper else 0):
            assert self.helper is not None
            try:
                return self.helper.html(texts)
            except TooSlow:
                self.helper.stop()
                return [plain(visible(text)) for text in texts]
            except OSError:
                self.helper.stop()
        return [render(text) for text in texts]


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def said_in(task: dict[str, Any] | None) -> list[Said]:
    """The messages and responses of a task or an answer."""
    return [*task["prompt"], *task["responses"]] if task else []


def main() -> None:
    """The helper: answers each line, a JSON list of texts, with the list of their HTML, until there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the server
    os.nice(NICENESS)
    try:
        for line in sys.stdin.buffer:
            print(json.dumps([render(text) for text in json.loads(line)]), flush=True)
    except BrokenPipeError:  # the server was killed; the interpreter's own flush at its end would fail once more
        os._exit(0)


if __name__ == "__main__":
    main()
