"""The log: every request and failure as JSON, and not a word of what anybody said."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.settings import Settings
from labeler.web import build_api
from preferences.disk import Disk
from preferences.logs import BadLog, logging_to, note
from preferences.records import Annotator, Comparison
from preferences.store import Store
from tests.labeler.conftest import PASSWORD, log_in
from tests.labeler.test_health import whole_ops

pytestmark = [pytest.mark.security, pytest.mark.smoke]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_session_of_work_leaves_no_secret_and_no_text_in_the_log(
    store: Store, accounts: dict[str, Annotator], comparisons: dict[int, Comparison], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Passwords, cookies, tokens, names, prompts, answers, reasons, paths and queries that were made up, also in failures."""
    assert comparisons
    log = tmp_path / "x.log"
    texts = [
        "wrong secret",
        "my-own-reason",
        "a-rewrite-of-mine",
        "query-secret",
        "path-secret",
        "body-secret",
        "boom-secret",
    ]

    def boom(*_: object, **__: object) -> None:
        raise ValueError(f"boom-secret {PASSWORD}")

    with logging_to(log, 10**7), TestClient(build_api(store, Settings(), {}), raise_server_exceptions=False) as client:
        client.post("/login", json={"name": "ann", "password": "wrong secret"})
        cookie = client.post("/login", json={"name": "ann", "password": PASSWORD}).cookies["rankloop_session"]
        task = client.get("/api/next").json()["task"]
        items = [response["id"] for response in task["responses"]]
        said = {"comparison": task["comparison"], "lease": task["lease"], "reason": "my-own-reason", "tiers": [items]}
        client.post("/api/draft", json={**said, "rewrite": "a-rewrite-of-mine", "rewrite_of": items[0]})
        stored = client.post("/api/submit", json={**said, "nonce": "nonce-0001"}).json()["saved"]
        client.get(f"/api/history/{stored}?q=query-secret")
        client.get("/join?token=query-secret")
        client.get("/api/path-secret")
        client.post("/api/submit", content=b'{"body-secret": "body-secret"}')
        monkeypatch.setattr(store.rankings, "submit", boom)
        task = client.get("/api/next").json()["task"]
        tiers = [[response["id"] for response in task["responses"]]]
        body = {"comparison": task["comparison"], "lease": task["lease"], "tiers": tiers, "nonce": "nonce-0002"}
        assert client.post("/api/submit", json=body).status_code == 500
        logging.getLogger("some.library").warning("it says boom-secret and %s", "query-secret")
        logging.getLogger("some.library").error("failed", exc_info=ValueError("boom-secret"))
    written = log.read_text()
    for text in [*texts, PASSWORD, cookie, '"ann"', "Describe one", "**Answer**", stored, *items, "nonce-000"]:
        assert text not in written, text
    found = lines(log)
    assert all({"at", "level", "event"} <= line.keys() for line in found)
    requests = [line for line in found if line["event"] == "request"]
    assert {(line["method"], line["route"], line["status"]) for line in requests} >= {
        ("POST", "/login", 401), ("POST", "/login", 200), ("GET", "/api/next", 200), ("POST", "/api/submit", 200),
        ("GET", "/api/history/{ranking}", 200), ("GET", "/join", 410), ("GET", "other", 404), ("POST", "/api/submit", 500),
    }  # fmt: skip
    assert {line["account"] for line in requests} == {None, accounts["ann"].id}
    assert all(line["ms"] >= 0 for line in requests)
    libraries = [line for line in found if line["event"] == "library"]
    assert [line["logger"] for line in libraries] == ["some.library"] * 2
    assert [line.get("error") for line in libraries] == [None, "ValueError"]


def test_logs_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with logging_to(log, 2000):
        for number in range(400):
            note("tick", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["x.log", *(f"x.log.{i}" for i in range(1, 6))]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert lines(log)[-1]["number"] == 399
    numbers = [line["number"] for file in [*files[:0:-1], log] for line in lines(file)]
    assert numbers == list(range(numbers[0], 400))


def test_a_log_that_cannot_be_written_is_one_sentence_at_the_start_and_stops_nothing_later(tmp_path: Path) -> None:
    with pytest.raises(BadLog, match="give another --log"), logging_to(tmp_path / "none" / "x.log", 1000):
        pass
    full = Path("/dev/full")
    with logging_to(full, 10**9):
        note("tick")


def test_a_failure_says_its_kind_and_place(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with logging_to(log, 10**6):
        try:
            raise KeyError("a secret")
        except KeyError as error:
            note("failed", logging.ERROR, error, code=7)
    (line,) = lines(log)
    assert (line["level"], line["event"], line["error"], line["code"]) == ("error", "failed", "KeyError", 7)
    assert line["trace"][-1].startswith("labeler/test_logs.py:") and "secret" not in log.read_text()


@pytest.mark.usefixtures("standing")
def test_a_page_whose_handler_fails_prints_no_text(
    whole: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Gradio would print the exception, whose message may be anybody's words."""

    def boom(_: Disk) -> str:
        raise ValueError("boom-secret")

    index = next(i for i, one in whole_ops(whole).fns.items() if one.fn and one.fn.__name__ == "alarm")
    log_in(whole, "adam")
    monkeypatch.setattr(Disk, "alarm", boom)
    with logging_to(tmp_path / "x.log", 10**6):
        body = {"fn_index": index, "data": [], "session_hash": "x"}
        answer = whole.post("/ops/gradio_api/run/predict", json=body)
    assert (answer.status_code, answer.json()["error"]) == (500, "The server failed; try again.")
    assert "boom-secret" not in "".join(capfd.readouterr()) + (tmp_path / "x.log").read_text()
    (line,) = [line for line in lines(tmp_path / "x.log") if line["event"] == "failure"]
    assert line["error"] == "ValueError" and line["trace"][-1].endswith(" boom")
