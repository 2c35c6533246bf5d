"""Texts get their HTML from a helper process, once; what happens to the helper happens to no annotator."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labeler.markup import plain, render
from labeler.rendering import NICENESS, Helper, Rendering
from tests.waiting import until

TEXTS = [
    "**bold**",
    "",
    "a\nb",
    "$x^2$ and `code`",
    "half \ud800 a character",
    "<script>",
    "ä" * 300_000,
    "> " * 10_000,
]


@pytest.fixture
def helper() -> Iterator[Helper]:
    made = Helper()
    made.start()
    yield made
    made.stop()


def task(*texts: str) -> dict[str, Any]:
    """The first is the prompt's."""
    prompt, *responses = texts
    return {"prompt": [{"role": "user", "text": prompt}], "responses": [{"id": t[:5], "text": t} for t in responses]}


def shown(rendering: Rendering, *texts: str) -> list[str]:
    made = rendering.task(task(*texts))
    return [one["html"] for one in [*made["prompt"], *made["responses"]]]


def pid(helper: Helper) -> int:
    assert helper.process is not None
    return helper.process.pid


def test_the_helper_gives_what_this_process_would(helper: Helper) -> None:
    assert shown(Rendering(helper), *TEXTS) == [render(text) for text in TEXTS] == shown(Rendering(), *TEXTS)
    assert os.getpriority(os.PRIO_PROCESS, pid(helper)) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


def test_a_page_without_a_task_stays_as_it_is() -> None:
    assert Rendering().page({"task": None, "state": "empty"}) == {"task": None, "state": "empty"}


def test_a_text_is_rendered_once_and_the_event_loop_need_not_wait(helper: Helper) -> None:
    rendering = Rendering(helper)
    first = asyncio.run(rendering.page_soon({"task": task("**a**", "b", "b")}))
    assert [one["html"] for one in first["task"]["responses"]] == ["<p>b</p>\n"] * 2
    helper.stop()
    assert asyncio.run(rendering.page_soon({"task": task("**a**", "b", "b")})) == first
    assert helper.process is None, "The helper was started for texts that are known."


def test_the_texts_that_were_not_read_for_longest_are_forgotten_first(helper: Helper) -> None:
    rendering = Rendering(helper, most=len("<p>a</p>\n") * 3)
    shown(rendering, "a", "b", "c")
    shown(rendering, "a", "d")
    helper.stop()
    shown(rendering, "a", "c", "d")
    assert helper.process is None
    shown(rendering, "b")
    assert helper.process is not None


def test_a_helper_that_died_is_started_again(helper: Helper) -> None:
    before = pid(helper)
    os.kill(before, signal.SIGKILL)
    assert shown(Rendering(helper), "**a**") == ["<p><strong>a</strong></p>\n"]
    assert pid(helper) != before


@pytest.mark.parametrize("command", [["false"], ["true"], ["/nowhere/at/all"]])
def test_without_a_helper_that_lives_this_process_renders(command: list[str]) -> None:
    assert shown(Rendering(Helper(command=command)), "**a**", "b") == ["<p><strong>a</strong></p>\n", "<p>b</p>\n"]


def test_a_text_that_takes_too_long_is_shown_as_it_is_and_the_next_is_rendered(helper: Helper) -> None:
    rendering = Rendering(helper)
    helper.patience = 0.1
    os.kill(pid(helper), signal.SIGSTOP)
    assert shown(rendering, "**a**\x00") == [plain("**a**␀")]
    helper.patience = 20
    assert shown(rendering, "**b**") == ["<p><strong>b</strong></p>\n"]


def lives(pid: int) -> bool:
    try:
        return b"labeler.rendering" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_the_helper_ends_with_the_server_however_that_ends() -> None:
    code = "import labeler.rendering, time; print(labeler.rendering.Helper().start().pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        helper = int(server.stdout.readline())
        until(lambda: lives(helper), 20)  # a process that has just begun has no command line yet
        server.kill()
    until(lambda: not lives(helper), 20)
