"""What a worker's token opens on the labeler, and what it does not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.errands import MOST_TAIL_BYTES
from labeler.settings import Settings
from labeler.uploads import PIECE_BYTES
from labeler.web import build_api
from labeler.worker_tokens import WRONG_A_MINUTE, BadTokenName, new_token
from preferences.disk import LOW_BYTES
from preferences.errors import NameTaken
from preferences.records import Annotator, Comparison, Policy, Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT
from tests.labeler.conftest import Clock, add_account, log_in
from tests.labeler.test_health import filling, served

pytestmark = [pytest.mark.security, pytest.mark.smoke]
ABOUT = {"model": "m", "quantization": "none", "device": "cpu", "memory_gib": None, "threads": 2, "stages": {}}
CLAIM = {"waiting": 0, "prompts": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    "epochs": {"type": "number", "default": 1.5, "description": "Passes.", "title": "epochs", "main": 0},
    "reward": {"type": ["string", "null"], "default": None, "format": "reward-model"},
    "also": {"type": "array", "items": {"type": "string"}, "default": [], "format": "policy"},
    "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
}  # fmt: skip
STAGE = {"title": "sft", "description": "Learn.", "type": "object", "properties": OPTIONS, "required": []}
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
TENSORS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0\0\0\0"
DOCUMENT = {
    "stage": "sft", "state": "finished", "config": {}, "base": {"base": "m", "quantization": "none"}, "versions": {},
}  # fmt: skip


class Far:
    """A worker on another host."""

    def __init__(self, client: TestClient, secret: str, name: str = "w") -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {secret}", "X-Rankloop-Worker": name}

    def ask(self, method: str, path: str, **more: Any) -> Any:
        return self.client.request(method, f"/api/worker/{path}", headers=self.headers, **more)

    def post(self, path: str, body: Any) -> Any:
        return self.ask("POST", path, json=body)

    def claim(self) -> Any:
        return self.post("claim", CLAIM).json()["job"]

    def send(self, job: str, data: bytes, size: int = PIECE_BYTES) -> dict[str, Any]:
        """Pieces of the data; what describes them."""
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for piece in pieces:
            assert self.ask("PUT", f"jobs/{job}/pieces/{sha(piece)}", content=piece).status_code == 204
        return {"sha256": sha(data), "size": len(data), "pieces": [sha(piece) for piece in pieces]}

    def effects(self, job: str, **effects: Any) -> Any:
        """The answer to what the worker says that it has made."""
        document = self.send(job, json.dumps(effects).encode())
        return self.post(f"jobs/{job}/effects", {"document": document, "progress": {"prompts": 1}})


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def far(client: TestClient, store: Store) -> Far:
    return Far(client, new_token(store, "gpu"))


@pytest.fixture
def job(store: Store, study: Study, far: Far, tmp_path: Path) -> str:
    """A run that the worker has in hand."""
    made = store.jobs.add("sft", {"out": str(tmp_path / "runs" / "r"), "study": study.name})
    assert far.claim()["id"] == made.id
    return made.id


def a_response(comparison: Comparison, text: str = "New.", policy: str = "pid-secret-sft") -> dict[str, Any]:
    return {
        "prompt": comparison.prompt, "policy": policy, "text": text, "seed": 0, "sample_index": 0, "temperature": 1.0,
        "top_p": 1, "max_new_tokens": 6, "finish_reason": "stop", "tokens": 2, "template_hash": "",
    }  # fmt: skip


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_a_worker_token_is_the_only_key_to_its_routes_and_opens_no_other(
    client: TestClient, store: Store, far: Far
) -> None:
    add_account(store, "root", "admin")
    assert far.post("seen", {}).status_code == 200
    for secret in ("", "rlw_wrong", far.headers["Authorization"].split()[1][:-1]):
        assert Far(client, secret).post("seen", {}).status_code == 401
    for method, path in (
        ("GET", "/api/next"), ("GET", "/api/me"), ("GET", "/api/training/jobs"), ("POST", "/api/submit"),
        ("GET", "/api/studies/main/rankings.jsonl"), ("GET", "/api/reports"), ("POST", "/api/promotions"),
    ):  # fmt: skip
        assert (
            client.request(method, path, headers=far.headers, json={} if method == "POST" else None).status_code == 401
        )
    root = log_in(TestClient(client.app), "root")
    assert root.post("/api/worker/claim", json=CLAIM, headers={"X-Rankloop-Worker": "w"}).status_code == 401
    cookie = {"authorization": f"Bearer {root.cookies['rankloop_session']}", "X-Rankloop-Worker": "w"}
    assert client.post("/api/worker/claim", json=CLAIM, headers=cookie).status_code == 401


def test_the_database_keeps_the_hash_of_a_worker_token_only(store: Store) -> None:
    secret = new_token(store, "gpu")
    store.settle()
    assert secret.encode() not in b"".join(path.read_bytes() for path in store.path.parent.glob("labels.db*"))
    with pytest.raises(NameTaken, match="gpu"):
        new_token(store, "gpu")
    for name in ("", "../x", "a b", "-a", "x" * 65):
        with pytest.raises(BadTokenName):
            new_token(store, name)


def test_a_revoked_worker_token_opens_nothing_at_once_and_the_log_says_who_came_and_went(
    client: TestClient, store: Store, far: Far, job: str, clock: Clock
) -> None:
    assert far.post(f"jobs/{job}/beat", {}).status_code == 200
    store.worker_tokens.revoke("gpu")
    assert far.post(f"jobs/{job}/beat", {}).status_code == 401
    clock.now += 61
    other = Far(client, new_token(store, "other"))
    assert other.claim()["id"] == job
    kinds = [(event.kind, event.detail) for event in store.events.newest(10)]
    assert ("worker token revoked", {"name": "gpu"}) in kinds and ("job claimed", {"worker": "other/w"}) in kinds


def test_too_many_wrong_worker_tokens_close_the_address(client: TestClient, far: Far) -> None:
    for _ in range(WRONG_A_MINUTE):
        assert Far(client, "rlw_wrong").post("seen", {}).status_code == 401
    assert far.post("seen", {}).status_code == 429


def test_a_worker_asks_at_its_own_pace(store: Store, accounts: dict[str, Annotator]) -> None:  # noqa: ARG001
    client = TestClient(build_api(store, Settings(requests_a_minute=3), {}))
    far, other = Far(client, new_token(store, "gpu")), Far(client, new_token(store, "other"))
    assert [far.post("seen", {}).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert other.post("seen", {}).status_code == 200
    assert log_in(client, "ann").get("/api/me").status_code == 200


# -- one job ---------------------------------------------------------------------------------------------------------


def test_a_job_is_one_workers_and_nobody_elses(client: TestClient, store: Store, far: Far, job: str) -> None:
    secret = far.headers["Authorization"].split()[1]
    for other in (Far(client, new_token(store, "other")), Far(client, secret, "another")):
        assert other.claim() is None
        for path, body in (
            ("beat", {}), ("missing", {"pieces": []}), ("files", {"files": []}), ("end", {"status": "done"}),
            ("effects", {"document": {"sha256": sha(b""), "size": 0, "pieces": []}}),
        ):  # fmt: skip
            assert other.post(f"jobs/{job}/{path}", body).json()["code"] == "not_held"
        for path in ("store", "files", "file?path=/etc/passwd"):
            assert other.ask("GET", f"jobs/{job}/{path}").json()["code"] == "not_held"
        assert other.ask("PUT", f"jobs/{job}/pieces/{sha(b'x')}", content=b"x").json()["code"] == "not_held"
    assert store.jobs.get(job).status == "running"
    store.jobs.stop(store.jobs.get(job), "")
    assert far.post(f"jobs/{job}/beat", {}).json()["code"] == "not_held"


def test_what_a_worker_has_in_hand_when_it_leaves_is_free_at_once(
    client: TestClient, store: Store, far: Far, job: str
) -> None:
    other = Far(client, new_token(store, "other"))
    assert other.post("leave", {}).status_code == 200 and other.claim() is None
    far.post("leave", {})
    assert other.claim()["id"] == job


def test_a_report_is_for_a_worker_beside_the_database(store: Store, far: Far) -> None:
    """What it makes is HTML, which no other host may send, and the page does not offer it while such a worker is the one."""
    store.jobs.add("report", {"run": "/runs/r"})
    assert far.claim() is None
    assert store.jobs.all()[0].status == "queued"
    assert far.post("hello", {**ABOUT, "stages": {"report": STAGE, "sft": STAGE}}).status_code == 200
    worker = store.workers.newest()
    assert worker and worker.about["stages"] == {"sft": STAGE}


WRONG_OPTIONS = (
    {}, {"type": "object"}, {"type": []}, {"type": "string", "format": "file"}, {"type": "integer", "format": "study"},
    {"type": "array", "format": "study"}, {"type": "array", "items": {}},
    {"type": "array", "items": {"type": "array"}, "format": "policy"},
    {"type": "string", "default": {"a": 1}}, {"type": "string", "default": [[1]]}, {"type": "string", "enum": [1]},
    {"type": "array", "items": {"type": "string"}, "default": None}, {"type": "integer", "default": "1"},
    {"type": "string", "main": "first"}, {"type": "string", "title": "x" * 5000}, {"type": "string", "description": "\ud800"},
)  # fmt: skip
WRONG_STAGES: tuple[dict[str, Any], ...] = (
    {"sft": {}}, {"sft": []}, {"../x": STAGE}, {"x\0": STAGE}, {"sft": {**STAGE, "properties": []}},
    {"sft": {**STAGE, "required": "epochs"}}, {"sft": {**STAGE, "makes_run": "no"}}, {"sft": {**STAGE, "title": None}},
    {"sft": {**STAGE, "properties": {"__proto__": OPTIONS["kind"]}}},
    *({"sft": {**STAGE, "properties": {"x": option}}} for option in WRONG_OPTIONS),
)  # fmt: skip


def test_stages_of_another_shape_than_forms_and_launches_read_are_refused(
    client: TestClient, store: Store, study: Study, far: Far
) -> None:
    add_account(store, "rita", "researcher")
    rita = log_in(TestClient(client.app), "rita")
    for stages in WRONG_STAGES:
        answer = far.ask("POST", "hello", content=json.dumps({**ABOUT, "stages": stages}))
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_request"), stages
    endless = json.dumps({**ABOUT, "stages": {"sft": {**STAGE, "properties": {"x": OPTIONS["epochs"]}}}})
    assert far.ask("POST", "hello", content=endless.replace("1.5", "1e999")).status_code == 422
    assert store.workers.newest() is None
    assert far.post("hello", {**ABOUT, "stages": {"sft": {**STAGE, "newer": 1}}}).status_code == 200
    assert rita.get("/api/training").json()["stages"] == {"sft": STAGE}
    body = {"stage": "sft", "run": "r", "options": {"study": study.name}}
    assert rita.post("/api/training/jobs", json=body).json()["code"] == "bad_request", "it has no such option"
    launched = rita.post("/api/training/jobs", json={**body, "options": {}}).json()["job"]
    spec = store.jobs.get(launched).spec
    assert {name: spec[name] for name in OPTIONS} == {"epochs": 1.5, "reward": None, "also": [], "kind": "a"}


def test_what_is_lent_names_nobody_and_holds_no_secret(
    store: Store,
    study: Study,
    far: Far,
    comparisons: dict[int, Comparison],
    accounts: dict[str, Annotator],
    tmp_path: Path,
) -> None:
    comparison = comparisons[3]
    store.rankings.add_imported(accounts["ann"], comparison, [[item] for item in comparison.items])
    elsewhere = store.studies.create("elsewhere", k=2)
    (secret,) = store.prompts.add([{"messages": [{"role": "user", "content": "Of another study."}]}])
    store.studies.add_prompts(elsewhere, [secret])
    store.jobs.add("reward", {"out": str(tmp_path / "runs" / "r"), "study": study.name})
    lent = far.ask("GET", f"jobs/{far.claim()['id']}/store")
    (tmp_path / "lent.db").write_bytes(lent.content)
    copy = Store(tmp_path / "lent.db")
    assert [one.tiers for one in copy.rankings.current()] == [[[item] for item in comparison.items]]
    assert (
        {one.id for one in copy.annotators.all()} == {accounts["ann"].id} == {one.name for one in copy.annotators.all()}
    )
    assert [one.name for one in copy.studies.all()] == ["main"]
    assert copy.comparisons.get(comparison.id) == comparison
    copy.close()
    for words in (b"$argon2", b"Of another study", b"labeler worker", store.worker_tokens.all()[0].id.encode()):
        assert words not in lent.content, words


def test_a_worker_fetches_what_its_job_needs_and_no_other_file(
    store: Store, study: Study, far: Far, tmp_path: Path
) -> None:
    folder = tmp_path / "sft" / "adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(TENSORS)
    (folder / "notes.txt").write_text("secret")
    (folder / "adapter_config.json").symlink_to(store.path)
    policy = store.policies.add(Policy("p", "p", "sft", "m", "none", str(folder)))
    store.studies.set_sampling_policies(study, [policy])
    store.jobs.add("sample", {"study": study.name})
    job = far.claim()["id"]
    (offered,) = far.ask("GET", f"jobs/{job}/files").json()["files"]
    assert offered == {"path": str(folder / "adapter_model.safetensors"), "size": len(TENSORS), "sha256": sha(TENSORS)}
    assert far.ask("GET", f"jobs/{job}/file", params={"path": offered["path"]}).content == TENSORS
    for path in (
        str(folder / "notes.txt"),
        str(folder / "adapter_config.json"),
        "/etc/passwd",
        str(store.path),
        f"{folder}/../x",
    ):
        assert far.ask("GET", f"jobs/{job}/file", params={"path": path}).status_code == 404


# -- what comes back -------------------------------------------------------------------------------------------------


def test_a_file_is_put_together_from_pieces_that_stay_when_the_sender_is_cut_off(
    far: Far, job: str, tmp_path: Path
) -> None:
    pieces = [TENSORS[at : at + 10] for at in range(0, len(TENSORS), 10)]
    hashes = [sha(piece) for piece in pieces]
    for piece in pieces[:3]:
        far.ask("PUT", f"jobs/{job}/pieces/{sha(piece)}", content=piece)
    assert far.post(f"jobs/{job}/missing", {"pieces": hashes}).json()["missing"] == hashes[3:]
    sent = {"name": "adapter/adapter_model.safetensors", "sha256": sha(TENSORS), "size": len(TENSORS), "pieces": hashes}
    assert far.post(f"jobs/{job}/files", {"files": [sent]}).json()["code"] == "bad_upload"
    for piece in pieces[3:]:
        far.ask("PUT", f"jobs/{job}/pieces/{sha(piece)}", content=piece)
    for _ in range(2):  # the answer may be lost, and the worker says it again
        assert far.post(f"jobs/{job}/files", {"files": [sent]}).status_code == 200
    assert (tmp_path / "runs" / "r" / "adapter" / "adapter_model.safetensors").read_bytes() == TENSORS
    far.post(f"jobs/{job}/beat", {"document": DOCUMENT})
    assert far.post(f"jobs/{job}/end", {"status": "done"}).status_code == 200
    assert not list((tmp_path / "labels.db.errands").glob("*/pieces"))


def test_what_a_stopped_job_has_sent_goes_when_a_worker_begins(
    store: Store, far: Far, job: str, tmp_path: Path
) -> None:
    far.send(job, TENSORS)
    far.post("hello", ABOUT)
    assert len(list((tmp_path / "labels.db.errands" / job / "pieces").iterdir())) == 1
    store.jobs.stop(store.jobs.get(job), "")
    far.post("hello", ABOUT)
    assert not list((tmp_path / "labels.db.errands").iterdir())


NAMES = (
    "../adapter/adapter_model.safetensors", "/etc/adapter_model.safetensors", "adapter/../../x.json", "config.json",
    "adapter/model.bin", "adapter/pytorch_model.pt", "adapter/adapter_model.safetensors/", "adapter/run.py",
    "checkpoints/1/adapter_model.safetensors", "adapter//adapter_config.json", "adapter/adapter_config.json\n",
    "report.html", "adapter/.adapter_config.json", "adapter\\adapter_config.json", "",
)  # fmt: skip


def test_a_worker_writes_files_of_known_names_alone(far: Far, job: str, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "errands" not in str(path)}
    sent = far.send(job, TENSORS)
    for name in NAMES:
        answer = far.post(f"jobs/{job}/files", {"files": [{"name": name, **sent}]})
        assert answer.json()["code"] == "bad_upload", name
    assert {path for path in tmp_path.rglob("*") if "errands" not in str(path)} == before


CONTENTS = (
    ("adapter/adapter_model.safetensors", b"\x80\x04K\x01."),
    ("adapter/adapter_model.safetensors", b"\xff" * 100),
    ("adapter/adapter_model.safetensors", TENSORS + b"\0"),
    ("adapter/head.safetensors", (2).to_bytes(8, "little") + b"[]"),
    ("adapter/head.safetensors", b""),
    ("adapter/rankloop.json", b"[1]"),
    ("adapter/rankloop.json", b"{" * 10_000),
    ("adapter/adapter_config.json", TENSORS),
)


def test_a_file_is_what_its_name_says(far: Far, job: str, tmp_path: Path) -> None:
    for name, data in CONTENTS:
        sent = {"name": name, **far.send(job, data)}
        assert far.post(f"jobs/{job}/files", {"files": [sent]}).json()["code"] == "bad_upload", (name, data[:9])
        assert not (tmp_path / "runs" / "r" / name).exists()


def test_a_piece_that_arrives_damaged_or_too_large_is_refused(far: Far, job: str) -> None:
    assert far.ask("PUT", f"jobs/{job}/pieces/{sha(b'a')}", content=b"b").json()["code"] == "bad_upload"
    assert far.ask("PUT", f"jobs/{job}/pieces/..%2f..%2fx", content=b"b").status_code in (404, 422)
    large = b"x" * (PIECE_BYTES + 1)
    assert far.ask("PUT", f"jobs/{job}/pieces/{sha(large)}", content=large).status_code == 413
    sent = far.send(job, b"{}")
    wrong = {**sent, "size": 3}
    assert far.post(f"jobs/{job}/effects", {"document": wrong}).json()["code"] == "bad_upload"


def test_a_worker_says_nothing_of_where_the_server_reads(store: Store, far: Far, job: str, tmp_path: Path) -> None:
    for body in ({"progress": {"log": "/etc/passwd"}}, {"progress": {"folder": "/etc"}}):
        assert far.post(f"jobs/{job}/beat", body).status_code == 422
    progress = store.jobs.get(job).progress
    assert progress == {"folder": str(tmp_path / "runs" / "r"), "log": str(tmp_path / "runs" / ".logs" / f"{job}.log")}
    for wrong in ({"stage": "ppo"}, {"study": "x"}, {"base": {}}, {"versions": {"a": 1}}):
        assert far.post(f"jobs/{job}/beat", {"document": {**DOCUMENT, **wrong}}).json()["code"] == "bad_upload"
    tail = {"name": "../x", "offset": 0, "data": ""}
    assert far.post(f"jobs/{job}/beat", {"tails": [tail]}).status_code == 422


def test_the_end_of_a_growing_file_is_put_where_it_belongs(far: Far, job: str, tmp_path: Path) -> None:
    def tail(offset: int, data: str) -> int:
        body = {"tails": [{"name": "metrics.jsonl", "offset": offset, "data": data}]}
        return int(far.post(f"jobs/{job}/beat", body).json()["sizes"]["metrics.jsonl"])

    assert tail(0, "YWJj") == 3
    assert tail(3, "ZGU=") == 5
    assert tail(9, "eA==") == 5  # something is missing
    assert tail(3, "RA==") == 4  # a resumed run has dropped a line
    assert (tmp_path / "runs" / "r" / "metrics.jsonl").read_text() == "abcD"


def test_while_the_disk_is_low_no_job_is_given_out_and_no_file_grows(
    store: Store, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = filling(tmp_path, 2 * LOW_BYTES)
    tail = {"name": "metrics.jsonl", "offset": 0, "data": "YWJj"}
    with served(store, disk, monkeypatch) as client:
        far = Far(client, new_token(store, "gpu"))
        store.jobs.add("sft", {"out": str(tmp_path / "runs" / "r"), "study": study.name})
        store.jobs.add("sft", {"out": str(tmp_path / "runs" / "s"), "study": study.name})
        job = far.claim()["id"]
        object.__setattr__(disk, "left", LOW_BYTES - 1)
        assert far.claim() is None
        answer = far.post(f"jobs/{job}/beat", {"progress": {"prompts": 3}, "tails": [tail]})
        assert (answer.status_code, answer.json()["code"]) == (507, "no_room") and "Make room" in answer.json()["error"]
        assert not (tmp_path / "runs" / "r" / "metrics.jsonl").exists()
        assert store.jobs.get(job).progress["prompts"] == 3, "it lives, and is heard"
        object.__setattr__(disk, "left", 2 * LOW_BYTES)
        assert far.post(f"jobs/{job}/beat", {"tails": [tail]}).status_code == 200
        late = {**tail, "offset": MOST_TAIL_BYTES}
        assert far.post(f"jobs/{job}/beat", {"tails": [late]}).json()["code"] == "bad_upload"
        assert far.claim() is not None


def test_a_run_adds_policies_of_its_own_name_and_folder_alone(store: Store, study: Study, far: Far, job: str) -> None:
    folder = store.jobs.get(job).spec["out"]
    good = {
        "id": "a" * 20, "name": "r", "kind": "sft", "base": "m", "quantization": "none", "adapter": f"{folder}/adapter",
        "parent": None, "data_hash": "", "config": {}, "code_version": "",
    }  # fmt: skip
    for wrong in (
        {"name": "s"}, {"kind": "ppo"}, {"kind": "human"}, {"adapter": "/etc"}, {"adapter": f"{folder}/../s/adapter"},
        {"adapter": "adapter"}, {"adapter": None}, {"parent": "nobody"}, {"id": "../../x"}, {"extra": 1},
    ):  # fmt: skip
        assert far.effects(job, policies=[{**good, **wrong}]).json()["code"] == "bad_upload", wrong
    assert [policy.name for policy in store.policies.all()] == ["policy-secret-ppo", "policy-secret-sft"]
    for _ in range(2):
        assert far.effects(job, policies=[good], sampling=["a" * 20]).status_code == 200
    assert store.policies.get("r").adapter == f"{folder}/adapter"
    assert [policy.name for policy in store.studies.sampling_policies(study)] == ["r"]


def test_a_job_adds_answers_to_its_own_studys_prompts_alone_and_once(
    store: Store, study: Study, far: Far, comparisons: dict[int, Comparison]
) -> None:
    made = store.jobs.add("sample", {"study": study.name})
    assert far.claim()["id"] == made.id
    (elsewhere,) = store.prompts.add([{"messages": [{"role": "user", "content": "Of another study."}]}])
    responses = [a_response(comparisons[2], "New."), a_response(comparisons[2], "Newer.")]
    for wrong in (
        [{**responses[0], "prompt": elsewhere.id}], [{**responses[0], "policy": "nobody"}],
        [{**responses[0], "finish_reason": "x"}], [{**responses[0], "id": "x"}],
    ):  # fmt: skip
        assert far.effects(made.id, responses=wrong).json()["code"] == "bad_upload"
    before = store.comparisons.count(study)
    assert far.effects(made.id, responses=responses).status_code == 200
    ids = [one.id for one in store.responses.of_prompt(comparisons[2].prompt) if one.text.startswith("New")]
    good = {"prompt": comparisons[2].prompt, "responses": ids, "origin": "sampled"}
    for wrong_one in (
        {"origin": "blind"},
        {"origin": "own prompt"},
        {"prompt": elsewhere.id},
        {"responses": [ids[0], "x"]},
    ):
        assert far.effects(made.id, comparisons=[{**good, **wrong_one}]).json()["code"] == "bad_upload"
    for _ in range(3):
        assert far.effects(made.id, comparisons=[good]).status_code == 200
    assert store.comparisons.count(study) == before + 1
    assert store.jobs.get(made.id).progress["prompts"] == 1
    for other in ({"scores": {"/r": {ids[0]: 1.0}}}, {"rankings": []}, {"spot_checks": [{}]}):
        assert far.effects(made.id, **other).json()["code"] == "bad_upload"
    assert far.effects(made.id, sampling=["pid-secret-ppo"]).status_code == 200
    assert len(store.studies.sampling_policies(study)) == 2, "Answers do not choose who answers."


def test_what_people_wrote_comes_with_a_blind_evaluation_that_asks_for_it_alone(
    store: Store, study: Study, far: Far, comparisons: dict[int, Comparison]
) -> None:
    people = {
        "id": Policy.of_people().id, "name": "human", "kind": "human", "base": "", "quantization": "none", "adapter": None,
        "parent": None, "data_hash": "", "config": {}, "code_version": "",
    }  # fmt: skip
    answer = a_response(comparisons[2], "By hand.", people["id"])
    spec = {"study": study.name, "adapter": "/r/adapter"}
    plain = store.jobs.add("evaluate", spec)
    assert far.claim()["id"] == plain.id
    assert far.effects(plain.id, policies=[people]).json()["code"] == "bad_upload"
    store.jobs.stop(plain, "")
    made = store.jobs.add("evaluate", {**spec, "human": "written.jsonl"})
    assert far.claim()["id"] == made.id
    for wrong in ({"id": "a" * 20}, {"name": "people"}, {"adapter": "/etc"}, {"base": "m"}, {"kind": "sft"}):
        assert far.effects(made.id, policies=[{**people, **wrong}]).json()["code"] == "bad_upload", wrong
    for _ in range(2):
        assert far.effects(made.id, policies=[people], responses=[answer]).status_code == 200
    assert store.policies.get("human") == replace(Policy.of_people(), created=store.policies.get("human").created)
    assert [one.text for one in store.responses.of_policy(people["id"])] == ["By hand."]
    store.jobs.stop(made, "")
    other = store.jobs.add("sample", {"study": study.name})
    assert far.claim()["id"] == other.id
    assert far.effects(other.id, responses=[{**answer, "text": "Mine."}]).json()["code"] == "bad_upload"


def test_of_effects_that_are_refused_nothing_is_stored(
    store: Store, study: Study, far: Far, comparisons: dict[int, Comparison]
) -> None:
    made = store.jobs.add("sample", {"study": study.name})
    far.claim()
    good, bad = (
        a_response(comparisons[2]),
        {"prompt": comparisons[2].prompt, "responses": ["x", "y"], "origin": "sampled"},
    )
    assert far.effects(made.id, responses=[good], comparisons=[bad]).status_code == 422
    assert "New." not in [one.text for one in store.responses.of_prompt(comparisons[2].prompt)]
    assert "prompts" not in store.jobs.get(made.id).progress


def test_answers_to_ones_own_prompt_are_ones_own(
    store: Store, study: Study, far: Far, accounts: dict[str, Annotator], comparisons: dict[int, Comparison]
) -> None:
    (own,) = store.prompts.add([{"messages": [{"role": "user", "content": "Mine?"}]}])
    spec = {"prompt": own.id, "study": study.id, "annotator": accounts["ann"].id, "nonce": "secret-nonce"}
    made = store.jobs.add(OWN_PROMPT, spec)
    assert "secret-nonce" not in json.dumps(far.claim())
    assert far.effects(made.id, responses=[a_response(comparisons[2])]).json()["code"] == "bad_upload"
    responses = [{**a_response(comparisons[2], text), "prompt": own.id} for text in ("One.", "Two.")]
    assert far.effects(made.id, responses=responses).status_code == 200
    ids = [one.id for one in store.responses.of_prompt(own.id)]
    comparison = {"prompt": own.id, "responses": ids, "origin": "own prompt"}
    assert far.effects(made.id, comparisons=[comparison]).status_code == 200
    found = store.comparisons.get(store.jobs.get(made.id).progress["comparison"])
    assert found.asked_by == accounts["ann"].id


def test_what_a_worker_says_of_itself_does_not_say_where_runs_are(store: Store, far: Far, tmp_path: Path) -> None:
    assert far.post("hello", {**ABOUT, "runs": "/etc"}).status_code == 422
    assert far.post("hello", ABOUT).json()["runs"] == str(tmp_path / "runs")
    worker = store.workers.newest()
    assert worker and worker.name == "gpu/w" and worker.about["runs"] == str(tmp_path / "runs")
    for name in ("", "a/b", "x" * 129, "a b"):
        assert Far(far.client, far.headers["Authorization"].split()[1], name).post("hello", ABOUT).status_code == 422
