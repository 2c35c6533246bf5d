"""What watches the labeler: /healthz and /readyz, and the alarm before the disk is full."""

import json
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from labeler.settings import Settings
from labeler.watch import watching
from labeler.web import build_api
from preferences.disk import Disk
from preferences.logs import logging_to
from preferences.store import Store
from tests.labeler.conftest import Standing, log_in

pytestmark = [pytest.mark.durability, pytest.mark.smoke]


class Filling(Disk):
    """A disk whose free bytes the test says, and whether it can be written."""

    __slots__ = ("left", "shut")

    def free(self) -> int:
        return self.left  # type: ignore[attr-defined,no-any-return]

    def read_only(self) -> bool:
        return getattr(self, "shut", False)


@contextmanager
def served(store: Store, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A labeler on that disk."""
    monkeypatch.setattr("labeler.web.Disk", lambda *_: disk)
    with TestClient(build_api(store, Settings(), {})) as client:
        yield client


def filling(folder: Path, free: int) -> Filling:
    """With so many bytes left."""
    made = Filling(folder)
    object.__setattr__(made, "left", free)
    return made


def test_it_lives_and_is_ready(client: TestClient) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").json()) == (200, {"status": "ok"})
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "problems": [], "warnings": []})


def test_a_disk_that_fills_up_is_told_before_it_hurts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = filling(tmp_path, 999_000_000)
    with served(store, disk, monkeypatch) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["warnings"]) == (200, ["disk_low"])
        object.__setattr__(disk, "left", 9_000_000)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["problems"]) == (503, ["disk_full"])
        assert client.get("/healthz").status_code == 200


def test_a_database_that_is_gone_or_damaged_is_told(store: Store, client: TestClient) -> None:
    store.path.rename(store.path.with_name("elsewhere.db"))
    assert "moved" in client.get("/readyz").json()["problems"]
    assert not store.path.exists(), "An empty database was made in its place."
    store.path.with_name("elsewhere.db").rename(store.path)
    assert client.get("/readyz").status_code == 200

    def broken(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    store.studies.all = broken  # type: ignore[method-assign,assignment]
    assert client.get("/readyz").json()["problems"] == ["database"]


def test_another_programs_lock_is_told(store: Store, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labeler.health.WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["problems"]) == (503, ["unwritable"])
        other.execute("ROLLBACK")
    assert client.get("/readyz").status_code == 200


@contextmanager
def no_file_grows(at_most: int) -> Iterator[None]:
    """No file of this process becomes longer meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_answer_that_could_not_be_stored_is_told_until_one_can(store: Store, client: TestClient) -> None:
    assert client.get("/readyz").status_code == 200
    store.settle()  # the next transaction makes the log longer
    with no_file_grows(1024):
        with pytest.raises(sqlite3.OperationalError):
            store.events.add("", "test", "", {})
        for _ in range(2):
            assert client.get("/readyz").json()["problems"] == ["unwritable"]
    assert client.get("/readyz").json() == {"ready": True, "problems": [], "warnings": []}
    store.events.add("", "test", "", {})


def test_a_disk_that_became_read_only_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = filling(tmp_path, 10**12)
    object.__setattr__(disk, "shut", True)
    with served(store, disk, monkeypatch) as client:
        assert client.get("/readyz").json()["problems"] == ["unwritable"]
    with watching(store, disk, every=0.01):
        threading.Event().wait(0.1)
    assert "Nothing can be stored in" in capsys.readouterr().err


def test_the_alarm_is_logged_and_said_once(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = filling(tmp_path, 5_000_000_000)
    log = tmp_path / "x.log"
    with logging_to(log, 10**6), watching(store, disk, every=0.01):
        for left in (5_000_000_000, 400_000_000, 3_000_000, 5_000_000_000):
            object.__setattr__(disk, "left", left)
            threading.Event().wait(0.2)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    states = [(line["level"], line["problems"], line["warnings"]) for line in lines if line["event"] == "state"]
    assert states == [("warning", [], ["disk_low"]), ("error", ["disk_full"], []), ("info", [], [])]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "400 MB left: soon" in said[0] and "3 MB left: nothing more" in said[1]


def test_admins_see_the_alarm_on_their_page(standing: Standing, whole: TestClient) -> None:
    """Through Gradio's own event, as the page calls it when it is opened."""
    from labeler.pages import ops

    blocks = ops.build_ops(standing.store, filling(standing.store.path.parent, 400_000_000))
    (event,) = [one for one in blocks.fns.values() if one.fn and one.fn.__name__ == "alarm"]

    class Request:
        username = standing.accounts["adam"].id

    update = event.fn(request=Request)  # type: ignore[misc]
    assert update["visible"] and "400 MB left" in update["value"]
    index = next(i for i, one in whole_ops(whole).fns.items() if one.fn and one.fn.__name__ == "alarm")
    log_in(whole, "adam")
    reply = whole.post("/ops/gradio_api/run/predict", json={"fn_index": index, "data": [], "session_hash": "x"})
    assert reply.status_code == 200 and reply.json()["data"][0]["visible"] is False


def whole_ops(client: TestClient) -> gr.Blocks:
    """The admins' page of the labeler."""
    mounts = {route.path: route for route in client.app.routes if isinstance(route, Mount)}  # type: ignore[attr-defined]
    blocks: gr.Blocks = mounts["/ops"].app.get_blocks()  # type: ignore[attr-defined]
    return blocks
