"""A PPO run's report in the browser: for owners, and only what stands in the policy's own run."""

from collections.abc import Callable
from pathlib import Path

from fastapi.testclient import TestClient

from preferences.records import Policy
from preferences.store import Store


def add_run(store: Store, folder: Path, name: str, kind: str = "ppo") -> Path:
    """A policy whose run is in that folder; where its report belongs."""
    store.policies.add(Policy(f"id-{name}", name, kind, adapter=str(folder / name / "adapter")))  # type: ignore[arg-type]
    place = folder / name / "report" / "report.html"
    place.parent.mkdir(parents=True)
    return place


def test_the_report_of_a_run(as_account: Callable[[str], TestClient], store: Store, tmp_path: Path) -> None:
    admin = as_account("adam")
    add_run(store, tmp_path, "done").write_text("<!doctype html><h1>PPO run ä</h1>", encoding="utf-8")
    add_run(store, tmp_path, "none")
    add_run(store, tmp_path, "sft", "sft").write_text("not of a PPO run")
    assert admin.get("/api/policies").json() == [{"id": "id-done", "name": "done"}]
    found = admin.get("/api/policies/id-done/report")
    assert found.headers["content-type"] == "text/html; charset=utf-8" and "PPO run ä" in found.text
    assert "default-src 'self'" in found.headers["content-security-policy"]
    for name in ("id-none", "id-sft", "nobody", "..%2f..%2fetc"):
        assert admin.get(f"/api/policies/{name}/report").status_code == 404


def test_annotators_see_none(as_account: Callable[[str], TestClient], store: Store, tmp_path: Path) -> None:
    ann = as_account("ann")
    add_run(store, tmp_path, "done").write_text("secret")
    assert ann.get("/api/policies").status_code == ann.get("/api/policies/id-done/report").status_code == 403
