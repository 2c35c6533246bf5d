"""Where policies come from: rankings, reward models, parents, as a graph, and their folders to take away."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from labeler.downloads import attachment
from labeler.packing import CHUNK, packed
from preferences.exchange.names import pseudonym
from preferences.records import Annotator, Study
from preferences.store import Store
from tests.labeler.conftest import add_account
from tests.labeler.trained import add_loop


@pytest.fixture
def rita(store: Store, as_account: Callable[[str], TestClient]) -> TestClient:
    add_account(store, "rita", "researcher")
    return as_account("rita")


@pytest.fixture
def loop(store: Store, study: Study, accounts: dict[str, Annotator], tmp_path: Path) -> dict[str, str]:
    """SFT, a reward model, and PPO from both; node names -> ids."""
    return add_loop(store, study, tmp_path / "runs", {pseudonym(study, accounts["ann"]): 20, "annotator-0000000000": 5})


def test_the_graph_says_what_made_what(store: Store, study: Study, loop: dict[str, str], rita: TestClient) -> None:
    store.studies.set_sampling_policies(study, [store.policies.get("ppo-1")])
    found = rita.get("/api/lineage").json()
    edges = {(edge["from"], edge["to"]) for edge in found["edges"]}
    assert edges == {
        (loop["demonstrations"], "s1"), ("s1", "p1"), (loop["rankings"], loop["reward"]), (loop["reward"], "p1"),
    }  # fmt: skip
    nodes = {node["id"]: node for node in found["nodes"]}
    assert set(nodes) == {*loop.values(), "pid-secret-sft", "pid-secret-ppo"}
    reward, ppo = nodes[loop["reward"]], nodes["p1"]
    assert reward["annotators"] == [["ann", 20], ["annotator-0000000000", 5]]
    assert ["Held-out accuracy", "0.710 (0.600 to 0.800)"] in reward["facts"] and ["Data", "abcd"] in reward["facts"]
    assert (
        nodes[loop["rankings"]]["name"] == "25 rankings" and ["Comparisons", "20"] in nodes[loop["rankings"]]["facts"]
    )
    assert nodes[loop["demonstrations"]]["name"] == "300 demonstrations"
    assert (ppo["answers"], ppo["missing"], ppo["command"][:2]) == (["main"], False, ["trainer", "ppo"])
    assert ["Reference of its KL", "sft-1"] in ppo["facts"]
    assert ["Training loss", "0.25"] in ppo["facts"] and ppo["config"] == {"out": ppo["config"]["out"], "lr": 1e-4}


@pytest.mark.usefixtures("comparisons")
def test_how_answers_were_drawn_and_what_is_missing(store: Store, loop: dict[str, str], rita: TestClient) -> None:
    (Path(store.policies.get("sft-1").adapter or "") / "rankloop.json").unlink()
    nodes = {node["id"]: node for node in rita.get("/api/lineage").json()["nodes"]}
    assert nodes["pid-secret-sft"]["samplers"] == [
        {"temperature": 0.73125, "top_p": 0.91375, "max_new_tokens": 64, "responses": 24}
    ]
    assert (nodes["s1"]["missing"], nodes["p1"]["missing"], nodes[loop["reward"]]["missing"]) == (True, False, False)


@pytest.mark.security
@pytest.mark.smoke
def test_a_runs_folder_is_taken_away_and_nothing_beside_it(
    store: Store, loop: dict[str, str], rita: TestClient, tmp_path: Path
) -> None:
    folder = Path(store.runs.get(loop["reward"]).folder)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "way-out").symlink_to(tmp_path / "secret.txt")
    (folder / "adapter" / "metrics.jsonl").write_text("{}\n")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "000001.pt").write_bytes(b"x")
    reply = rita.get(f"/api/runs/{loop['reward']}/run.zip")
    assert reply.headers["content-disposition"] == 'attachment; filename="reward-1.zip"'
    with zipfile.ZipFile(io.BytesIO(reply.content)) as packed:
        assert packed.namelist() == [
            f"reward-1/adapter/{name}" for name in ("adapter_model.safetensors", "metrics.jsonl", "rankloop.json")
        ]
    (event,) = store.events.about(loop["reward"], "download")
    assert (event.actor, event.detail) == (store.annotators.get("rita").id, {"file": "reward-1.zip"})
    folder.rename(tmp_path / "moved")
    gone = rita.get(f"/api/runs/{loop['reward']}/run.zip")
    assert gone.status_code == 404 and "is not there any more" in gone.json()["error"]


@pytest.mark.security
@pytest.mark.smoke
def test_a_folder_is_packed_while_it_is_sent(tmp_path: Path) -> None:
    """Whatever becomes of its files meanwhile: one may go, one may grow, a name need not be text."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode() * (2 * CHUNK + 5))
    (folder / "d\udcff").write_text("d")
    pieces = packed(folder)
    first = next(pieces)
    assert CHUNK < len(first) < CHUNK + 200, "it begins before all is read"
    (folder / "a").write_bytes(b"a" * (5 * CHUNK))
    (folder / "b").unlink()
    with zipfile.ZipFile(io.BytesIO(first + b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert {name: archive.getinfo(name).file_size for name in archive.namelist()} == {
            "run/a": 2 * CHUNK + 5, "run/c": 2 * CHUNK + 5, "run/d?": 1
        }  # fmt: skip


def test_a_browser_that_goes_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3 * CHUNK))
    pieces = packed(tmp_path)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert not [link for link in Path("/proc/self/fd").iterdir() if link.exists() and link.resolve().name == "a"]


def test_a_runs_name_may_be_in_any_letters(
    store: Store, loop: dict[str, str], rita: TestClient, tmp_path: Path
) -> None:
    folder = tmp_path / 'r\u00e9sum\u00e9 \u65e5\u672c "x"\r\n'
    Path(store.runs.get(loop["reward"]).folder).rename(folder)
    with store.write() as db:
        db.execute("UPDATE runs SET folder = ? WHERE id = ?", [str(folder), loop["reward"]])
    reply = rita.get(f"/api/runs/{loop['reward']}/run.zip")
    said = "filename*=UTF-8''r%C3%A9sum%C3%A9%20%E6%97%A5%E6%9C%AC%20%22x%22%0D%0A.zip"
    assert (reply.status_code, reply.headers["content-disposition"]) == (200, f"attachment; {said}")
    assert attachment("d\udcff.zip") == {"Content-Disposition": "attachment; filename*=UTF-8''d%FF.zip"}
