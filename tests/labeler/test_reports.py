"""Reports of runs in the browser: for researchers and admins, and only what stands in a known run's folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from preferences.records import Policy
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.labeler.trained import document


def add_run(store: Store, folder: Path, name: str, stage: str = "ppo") -> str:
    """A run in that folder; its id."""
    (folder / name).mkdir(parents=True)
    return store.runs.note(str(folder / name), document(stage, folder / name)).id


def report(folder: Path, name: str, text: str) -> None:
    """The run's report."""
    (folder / name / "report").mkdir()
    (folder / name / "report" / "report.html").write_text(text, encoding="utf-8")


@pytest.fixture
def runs(store: Store, tmp_path: Path) -> dict[str, str]:
    """name -> id: a reward run and a PPO run with reports, and one without."""
    made = {"reward-1": "reward", "ppo-1": "ppo", "ppo-2": "ppo"}
    ids = {name: add_run(store, tmp_path / "runs", name, stage) for name, stage in made.items()}
    for name in ("reward-1", "ppo-1"):
        report(tmp_path / "runs", name, f"<!doctype html><h1>{name} ä</h1>")
    return ids


@pytest.mark.parametrize("role", ["researcher", "admin"])
def test_the_report_of_a_reward_run_and_of_a_ppo_run(
    as_account: Callable[[str], TestClient], store: Store, runs: dict[str, str], role: str
) -> None:
    add_account(store, "olga", role)
    owner = as_account("olga")
    assert owner.get("/api/reports").json() == [
        {"run": runs["ppo-1"], "name": "ppo-1 (ppo)"}, {"run": runs["reward-1"], "name": "reward-1 (reward)"},
    ]  # fmt: skip
    for name in ("reward-1", "ppo-1"):
        found = owner.get(f"/api/runs/{runs[name]}/report")
        assert found.headers["content-type"] == "text/html; charset=utf-8" and f"{name} ä" in found.text
        assert "default-src 'self'" in found.headers["content-security-policy"]


def test_there_is_no_report_but_a_known_runs(
    as_account: Callable[[str], TestClient], store: Store, runs: dict[str, str], tmp_path: Path
) -> None:
    admin = as_account("adam")
    (tmp_path / "runs" / "unknown").mkdir()
    report(tmp_path / "runs", "unknown", "secret")
    store.policies.add(Policy("id", "unknown", "ppo", adapter=str(tmp_path / "runs" / "unknown" / "adapter")))
    for name in (runs["ppo-2"], "unknown", "id", "nobody", "..%2f..%2fetc", f"{runs['ppo-2']}%2f..%2funknown"):
        found = admin.get(f"/api/runs/{name}/report")
        assert found.status_code == 404 and "secret" not in found.text


def test_annotators_and_strangers_see_none(
    client: TestClient, as_account: Callable[[str], TestClient], runs: dict[str, str]
) -> None:
    for path in ("/api/reports", *(f"/api/runs/{ident}/report" for ident in runs.values())):
        assert client.get(path).status_code == 401, path
    ann = as_account("ann")
    for path in ("/api/reports", *(f"/api/runs/{ident}/report" for ident in runs.values())):
        refused = ann.get(path)
        assert refused.status_code == 403 and "ä" not in refused.text, path
