"""A real labeler in a process of its own, and a browser that may talk to nobody else."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, expect

from preferences.records import Annotator, Policy, Ranking, Study
from preferences.store import Store
from tests.labeler.conftest import PASSWORD, add_account, add_comparison

PATIENCE_MS = 120_000  # tests wait for states, not for times: on a busy machine a state may take long to come
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = [
    "<script>window.__xss=1</script><img src=x onerror=window.__xss=1> [a](javascript:window.__xss=1)",
    "${window.__xss=1} {{constructor.constructor('window.__xss=1')()}} `${window.__xss=1}`",
    "![pixel](https://evil.example/p.png) <img src=//evil.example/q> $\\href{javascript:window.__xss=1}{x}$",
    "Word" * 200,
    "```python\n" + "x = 1 + " * 80 + "1\n```\n\n|" + "column|" * 30 + "\n|" + "-|" * 30 + "\n|" + "cell|" * 30,
    "$$" + "+".join(f"x_{{{i}}}^2" for i in range(60)) + "$$",
    "<svg onload=window.__xss=1><style>@import 'https://evil.example/a.css'</style>",
]


def launch(playwright: Playwright) -> Browser:
    """The system's chromium, else Playwright's own."""
    expect.set_options(timeout=PATIENCE_MS)
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)


def open_tab(page: Page, name: str) -> None:
    """A tab of Gradio's: those that find no room in the window are in a menu."""
    page.get_by_role("tab").first.wait_for()
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


class Labeler:
    """`labeler serve` on a database with comparisons of every size; it can be stopped and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.options = options
        self.db = folder / "labels.db"
        self.log = folder / "server.log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = Store(self.db)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the server accepts connections."""
        command = [sys.executable, "-m", "labeler", "serve", "--db", self.db, "--port", str(self.port), *self.options]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        assert self.process.stdout is not None
        assert b"ready" in self.process.stdout.readline(), self.log.read_text()

    def stop(self) -> None:
        """As a power cut does it: at once."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None

    def fill(self, study: Study) -> None:
        """Comparisons of two to nine responses, and one of hostile texts."""
        for k in range(2, 10):
            texts = [f"**Answer** {i} of {k}, with `code` and $x^{i}$." for i in range(k)]
            add_comparison(self.store, study, f"Describe number {k} to a child.", texts)
        add_comparison(self.store, study, f"Describe {HOSTILE[0]} and {HOSTILE[1]}", HOSTILE)

    def rankings(self, annotator: Annotator) -> list[Ranking]:
        """What is stored of an annotator, oldest first."""
        return self.store.rankings.history(annotator)[::-1]


@contextmanager
def labeler(folder: Path, *options: str) -> Iterator[Labeler]:
    """A running labeler whose comparisons any number of annotators may rank; `options`: of `labeler serve`."""
    made = Labeler(folder, *options)
    study = made.store.studies.create("main", plan={"labels_train": 1000, "shared": 0.0, "repeats": 0.0})
    for name in ("sft", "ppo"):
        made.store.policies.add(Policy(f"pid-secret-{name}", f"policy-secret-{name}", name))  # type: ignore[arg-type]
    made.fill(study)
    made.start()
    try:
        yield made
    finally:
        made.stop()
        made.store.close()


class Seat:
    """An annotator in front of the board."""

    def __init__(
        self,
        browser: Browser,
        server: Labeler,
        name: str,
        settings: dict[str, Any] | None = None,
        wait: str = ".rb-card, .rb-rest",
        **context: Any,
    ) -> None:
        self.server = server
        self.account = server.store.annotators.change_settings(
            add_account(server.store, name), {"tour": True, **(settings or {})}
        )
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.context.request.post(f"{server.url}/login", data={"name": name, "password": PASSWORD})
        self.wait = wait
        self.open()

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.outside.append(request.url)

    def open(self) -> None:
        """Load the page and wait for a task."""
        self.page.goto(f"{self.server.url}/app/annotate")
        self.page.wait_for_selector(self.wait)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    @property
    def count(self) -> int:
        """Responses on the board."""
        return self.page.locator(".rb-card").count()

    @property
    def prompt(self) -> str:
        return self.page.inner_text(".rb-turns")

    def focus(self) -> str:
        """The letter of the card that has the focus, or ""."""
        return str(self.page.evaluate("document.activeElement.closest('.rb-card')?.dataset.letter ?? ''"))

    def wait_state(self, pattern: str, timeout: float = PATIENCE_MS) -> str:
        """Wait until the save state matches; its text."""
        self.page.wait_for_function(
            "pattern => new RegExp(pattern).test(document.querySelector('.rb-state').textContent)",
            arg=pattern,
            timeout=timeout,
        )
        return self.text(".rb-state")

    def note_states(self) -> Callable[[], list[str]]:
        """From now on note every save state that is shown, however briefly; returns what gives them."""
        self.page.evaluate(
            """() => { window.states = [];
            const state = document.querySelector('.rb-state');
            new MutationObserver(() => window.states.push(state.textContent)).observe(state, {childList: true}); }"""
        )
        return lambda: list(self.page.evaluate("window.states"))

    def wait_change(self, prompt: str) -> None:
        """Wait for another task (or none) than the one with that prompt."""
        self.page.wait_for_function("prompt => document.querySelector('.rb-turns')?.innerText !== prompt", arg=prompt)

    def wait_draft(self) -> None:
        self.wait_state("^Draft saved")
