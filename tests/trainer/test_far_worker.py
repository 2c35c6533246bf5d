"""Workers on other hosts: what they make arrives, once, however often either side is killed."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from preferences.records import Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT
from tests.conftest import PLAIN, ROOT
from tests.far import QUICK, SMALL_PIECES, Hosts
from tests.labeler.conftest import PASSWORD, add_account
from tests.tiny import DATA, save_tiny_llama
from tests.trainer.fill import add_policy, add_prompts, annotator, demonstrations, metrics, state
from tests.trainer.test_worker_deaths import ROWS, SAMPLED, alive, check, fill, send, until
from trainer.far_labeler import BadToken
from trainer.models import load_base
from trainer.worker import Worker, work

pytestmark = pytest.mark.usefixtures("own_cache", "as_before")


@pytest.fixture
def hosts(tmp_path: Path, store: Store, llama_folder: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    (tmp_path / "runs").mkdir()
    made = Hosts(tmp_path, store, llama_folder, getattr(request, "param", QUICK))
    yield made
    made.close()


def worker(hosts: Hosts, name: str = "one", **more: Any) -> Worker:
    """One in this process."""
    options = {**hosts.of(name), **more}
    return Worker(**{**options, "token_file": Path(options["token_file"]), "folder": Path(options["folder"])})


def test_comparisons_wait_for_everybody_though_the_worker_is_elsewhere(
    hosts: Hosts, store: Store, study: Study, adapters: dict[str, Path], llama_folder: Path
) -> None:
    """The policy's adapter travels to it, once; the answers to the same prompts are those of a worker beside the database."""
    add_prompts(store, study, 12)
    add_policy(store, study, load_base(str(llama_folder), "none"), adapters["sft"])
    work(worker(hosts, waiting=5))
    assert store.queue.waiting(study) == 8  # four prompts at once
    comparison = store.comparisons.all(study.id)[0]
    assert {one.policy for one in store.responses.get_many(comparison.items).values()} == {"sft"}
    (fetched,) = (hosts.folder / "host-one").rglob("adapter_model.safetensors")
    assert fetched.read_bytes() == (adapters["sft"] / "adapter_model.safetensors").read_bytes()
    before = fetched.stat().st_mtime_ns
    work(worker(hosts, waiting=9))
    assert store.queue.waiting(study) == 12
    assert fetched.stat().st_mtime_ns == before
    assert not list((hosts.folder / "host-one" / "work" / "jobs").iterdir())
    assert [job.kind for job in store.jobs.all()] == ["top_up"]  # what has ended before is forgotten


@pytest.mark.distributed
def test_a_far_worker_does_a_job_of_each_kind(hosts: Hosts, store: Store, study: Study, tmp_path: Path) -> None:
    queued = fill(store, study, tmp_path / "runs", "sft", "sample", "reward", "ppo")
    held = add_prompts(store, study, 4, "heldout")
    talks = [[*prompt.messages, {"role": "assistant", "content": "By hand."}] for prompt in held]
    written = demonstrations(hosts.folder / "written.jsonl", talks)  # a file of the worker's host
    reward, adapter = (str(tmp_path / "runs" / run / "adapter") for run in ("reward", "ppo"))
    judged = {
        "adapter": adapter,
        "reward": reward,
        "prompts": 3,
        "max_new_tokens": 6,
        "temperature": 1.0,
        "queue": True,
        "also": ["ppo@2"],
        "human": str(written),
    }
    queued["evaluate"] = store.jobs.add("evaluate", judged).id
    queued["check"] = store.jobs.add("check", {"reward": reward, "policy": "ppo"}).id
    report = store.jobs.add("report", {"run": str(tmp_path / "runs" / "ppo")})
    ann = annotator(store, "ann")
    (own,) = store.prompts.add([{"messages": [{"role": "user", "content": "Mine?"}], "source": "own prompt"}])
    mine = store.jobs.add(OWN_PROMPT, {"prompt": own.id, "study": study.id, "annotator": ann.id, "nonce": "a nonce"})
    options = {"out": str(tmp_path / "p"), "reward": str(tmp_path / "r")}
    planned = store.jobs.add("plan", {"stage": "ppo", "options": options, "vram": 24.0})
    assert work(worker(hosts))["jobs"] == 8
    assert store.jobs.get(report.id).status == "queued", "It is for a worker beside the database."
    for stage, ident in queued.items():
        job = store.jobs.get(ident)
        assert (job.status, job.error) == ("done", ""), stage
    for stage, steps in (("sft", 24), ("ppo", 8)):
        assert state(tmp_path / "runs" / stage)["state"] == "finished"
        assert [line["step"] for line in metrics(tmp_path / "runs" / stage) if "loss" in str(line)][-1] == steps
    sampled = [one for one in store.comparisons.all(study.id) if one.origin == "sampled" and one.asked_by is None]
    assert len(sampled) == ROWS + SAMPLED
    blind = [one for one in store.comparisons.all(study.id) if one.origin in ("blind", "equal")]
    result = store.jobs.get(queued["evaluate"]).progress["result"]
    assert len(blind) == 3 == result["queued"] + result["equal"] and result["policy"] == "ppo"
    names = {policy.id: policy.name for policy in store.policies.all()}
    mixed = [{names[one.policy] for one in store.responses.get_many(comparison.same).values()} for comparison in blind]
    assert set().union(*mixed) == {"ppo", "ppo@2", "sft", "human"} and result["human"] == 3
    found = store.jobs.get(queued["check"]).progress["result"]
    assert found["scored"] > 0 and [name for name, *_ in store.scores.rewards()] == [reward]
    assert store.spot_checks.next(study, ann) is not None
    done = store.jobs.get(mine.id)
    assert done.status == "done", done.error
    comparison = store.comparisons.get(done.progress["comparison"])
    assert (comparison.asked_by, comparison.prompt, comparison.priority) == (ann.id, own.id, 1000.0)
    done = store.jobs.get(planned.id)
    assert done.status == "done" and done.progress["plan"], done.error
    runs = {run.stage: run for run in store.runs.all()}
    assert runs.keys() == {"sft", "reward", "ppo"}
    new = store.policies.get("ppo")
    assert new.adapter == str(tmp_path / "runs" / "ppo" / "adapter") and Path(new.adapter).is_dir()
    assert runs["ppo"].document["judged_by"] == str(tmp_path / "runs" / "reward" / "adapter")
    assert str(hosts.folder / "host-one") not in json.dumps(runs["ppo"].document["config"])
    assert store.studies.sampling_policies(study) == [new]
    job = store.jobs.get(queued["ppo"])
    assert Path(job.progress["folder"]) == tmp_path / "runs" / "ppo"
    assert "ppo" in Path(job.progress["log"]).read_text()


@pytest.mark.distributed
def test_a_job_that_fails_there_fails_here_with_its_sentence(hosts: Hosts, store: Store, study: Study) -> None:
    add_prompts(store, study, 2)
    job = store.jobs.add("reward", {"out": str(hosts.folder / "runs" / "r")})
    work(worker(hosts))
    failed = store.jobs.get(job.id)
    assert failed.status == "failed" and "rank more" in failed.error


@pytest.mark.distributed
def test_without_a_good_token_the_worker_ends_with_a_sentence(hosts: Hosts, store: Store) -> None:
    options = worker(hosts)
    store.worker_tokens.revoke("one")
    with pytest.raises(BadToken, match="revoked"):
        work(options)


# -- deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.distributed
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_far_worker_and_its_labeler_die_again_and_again(
    hosts: Hosts, store: Store, study: Study, tmp_path: Path, by: int
) -> None:
    """A dozen workers of two hosts, one after the other; the last one finishes what is left, and all of it counts once."""
    queued = fill(store, study, tmp_path / "runs", "sft", "sample", "reward", "ppo")
    draw, ended = random.Random(int(by)), 0
    for turn in range(12):
        pid = hosts.start(draw.choice(["one", "two"]))
        until(lambda: not alive(pid) or any(job.status == "running" for job in store.jobs.all()))  # noqa: B023
        time.sleep(draw.uniform(0.1, 0.9))
        if turn % 3 == 0:
            hosts.server.kill()
            hosts.server.start()
        ended += alive(pid)
        send(pid, by)
        until(lambda: not alive(pid))  # noqa: B023
        if by == signal.SIGKILL:
            time.sleep(1.1)
    pid = hosts.start("one")
    until(lambda: not alive(pid), 240)
    assert ended >= 3, "Most of them had nothing to do."
    check(store, queued, tmp_path / "runs")


@pytest.mark.distributed
@pytest.mark.parametrize("stage", ["reward", "sft"])
@pytest.mark.parametrize("hosts", [QUICK + SMALL_PIECES], indirect=True)
def test_a_worker_that_is_killed_while_it_sends_goes_on_from_there(
    hosts: Hosts, store: Store, study: Study, tmp_path: Path, stage: str
) -> None:
    """The run had ended there, and the labeler had not heard of it: what is left of it is made good, the policy too."""
    ident = fill(store, study, tmp_path / "runs", stage)[stage]
    pid = hosts.start("one", die=7)
    until(lambda: not alive(pid), 120)
    pieces = hosts.store.path.with_name("rankloop.db.errands") / ident / "pieces"
    arrived = {path.name: path.stat().st_mtime_ns for path in pieces.iterdir()}
    assert len(arrived) == 7
    assert not (tmp_path / "runs" / stage / "adapter" / "rankloop.json").exists()
    time.sleep(1.1)
    pid = hosts.start("one", die=12)
    until(lambda: not alive(pid), 120)
    again = {path.name: path.stat().st_mtime_ns for path in pieces.iterdir()}
    assert {name: again[name] for name in arrived} == arrived and len(again) == 7 + 12, (
        "What had arrived was sent again."
    )
    time.sleep(1.1)
    pid = hosts.start("one")
    until(lambda: not alive(pid), 120)
    assert store.jobs.get(ident).status == "done"
    assert state(tmp_path / "runs" / stage)["state"] == "finished"
    last = "rankloop.json" if stage == "sft" else "member-1/head.safetensors"
    assert (tmp_path / "runs" / stage / "adapter" / last).is_file()
    assert [policy.name for policy in store.policies.all() if policy.kind == "sft"] == ["sft"] * (stage == "sft")
    assert not pieces.exists()


@pytest.mark.distributed
def test_two_far_workers_and_one_job(hosts: Hosts, store: Store, study: Study, tmp_path: Path) -> None:
    """One of them has it; it stands still for too long, loses the job to the other, hears of it, and spoils nothing."""
    queued = fill(store, study, tmp_path / "runs", "sft", "sample")
    pids = [hosts.start("one"), hosts.start("two")]
    draw = random.Random(5)
    for _ in range(4):
        time.sleep(draw.uniform(0.2, 1.0))
        for pid in pids:
            send(pid, signal.SIGSTOP)
            time.sleep(1.5)
            send(pid, signal.SIGCONT)
    for pid in pids:
        until(lambda: not alive(pid), 180)  # noqa: B023
    time.sleep(1.1)
    pid = hosts.start("one")
    until(lambda: not alive(pid), 180)
    check(store, queued, tmp_path / "runs")


@pytest.mark.distributed
def test_a_revoked_worker_stops_and_another_one_takes_its_job(
    hosts: Hosts, store: Store, study: Study, tmp_path: Path
) -> None:
    queued = fill(store, study, tmp_path / "runs", "sft")
    pid = hosts.start("one")
    until((tmp_path / "runs" / "sft" / "metrics.jsonl").exists, 120)
    store.worker_tokens.revoke("one")
    until(lambda: not alive(pid), 60)
    assert store.jobs.get(queued["sft"]).status == "running"
    assert not store.policies.find("sft")
    time.sleep(1.1)
    pid = hosts.start("two")
    until(lambda: not alive(pid), 120)
    assert store.jobs.get(queued["sft"]).status == "done"
    assert Path(str(store.policies.get("sft").adapter)).is_dir()


# -- the whole loop --------------------------------------------------------------------------------------------------


class Site:
    """`labeler serve` in one folder and `trainer worker --server` in another, as commands."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = folder / "labeler", folder / "worker"
        for place in (self.here, self.there):
            place.mkdir()
        self.store = Store(self.here / "rankloop.db")
        self.processes: list[subprocess.Popen[str]] = []

    def begin(self, place: Path, *command: str, name: str) -> subprocess.Popen[str]:
        """A process in that folder, whose cache is there too."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "RANKLOOP_CACHE": str(place),
            "HOME": str(place),
        }
        with (place / f"{name}.log").open("w") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=place, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**environment, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"},
            )  # fmt: skip
        self.processes.append(started)
        return self.processes[-1]

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.communicate(timeout=120)
        self.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def command(site: Site, *words: str) -> str:
    """What a labeler command prints, run on the labeler's host."""
    done = subprocess.run(
        [sys.executable, "-m", "labeler", *words, "--db", "rankloop.db"], cwd=site.here, text=True, check=True,
        capture_output=True, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout


@pytest.mark.distributed
def test_the_loop_completes_in_two_folders_that_share_no_files(site: Site) -> None:
    store = site.store
    study = store.studies.create("main", k=2, plan=PLAIN)
    lines = (DATA / "round_prompts.jsonl").read_text().splitlines()[:12]
    prompts = store.prompts.add([{"messages": json.loads(line)["messages"]} for line in lines], heldout=0.0)
    store.studies.add_prompts(study, prompts)
    for name, role in (("ann", "annotator"), ("rosa", "researcher")):
        add_account(store, name, role)
    server = site.begin(site.here, "labeler", "serve", "--db", "rankloop.db", "--port", "0", name="server")
    assert server.stdout is not None
    url = server.stdout.readline().split()[-1]
    (site.there / "token").write_text(command(site, "worker-token", "add", "gpu-1"))
    save_tiny_llama(site.there / "llama")
    far = site.begin(
        site.there, "trainer", "worker", "--server", url, "--token-file", "token", "--model", "llama", "--quantize", "none",
        "--max-new-tokens", "6", "--temperature", "1.0", "--waiting", "4", "--poll", "0.2", name="worker",
    )  # fmt: skip

    # 1. Answers come from the other folder, and somebody ranks them.
    with httpx.Client(base_url=url, timeout=60) as ann:
        ann.post("/login", json={"name": "ann", "password": PASSWORD}).raise_for_status()
        until(lambda: store.queue.waiting(study) >= 4, 180)
        for number in range(4):
            task = ann.get("/api/next").raise_for_status().json()["task"]
            tiers = [[one["id"]] for one in task["responses"]]
            body = {
                "comparison": task["comparison"],
                "lease": task["lease"],
                "nonce": f"nonce-000{number}",
                "tiers": tiers,
            }
            ann.post("/api/submit", json=body).raise_for_status()

    # 2. A researcher launches a reward model and PPO from the browser, sees them come, and promotes the policy.
    with httpx.Client(base_url=url, timeout=60) as rosa:
        rosa.post("/login", json={"name": "rosa", "password": PASSWORD}).raise_for_status()
        assert rosa.get("/api/training").json()["worker"]["alive"]
        launched(rosa, store, "reward", "my-reward", epochs=2.0)
        (reward,) = rosa.get("/api/training").json()["choices"]["reward-model"]
        job = launched(rosa, store, "ppo", "my-ppo", reward=reward["value"], iterations=3, episodes=8, max_new_tokens=6)
        page = rosa.get(f"/api/training/jobs/{job}").json()
        assert {"Score", "KL"} <= {plot["title"] for plot in page["plots"]} and page["log"] and page["looks"]
        new = store.policies.get("my-ppo")
        assert not store.responses.of_policy(new.id)
        body = {"study": study.id, "policy": new.id}
        rosa.post("/api/promotions", json=body).raise_for_status()
        until(lambda: store.promotions.fresh(study, 4) == 4, 180)
        lineage = rosa.get("/api/lineage").json()
        edges = {(edge["from"], edge["to"]) for edge in lineage["edges"]}
        made = next(node["id"] for node in lineage["nodes"] if node["name"] == "my-reward")
        assert (made, new.id) in edges and not any(node["missing"] for node in lineage["nodes"] if "missing" in node)

    # 3. The worker has opened nothing of the labeler's folder.
    opened = {str(path.resolve()) for path in Path(f"/proc/{far.pid}/fd").iterdir() if path.exists()}
    assert not [path for path in opened if path.startswith(str(site.here))]
    assert state(site.here / "runs" / "my-ppo")["state"] == "finished"


def launched(rosa: httpx.Client, store: Store, stage: str, run: str, **options: Any) -> str:
    """The job, once it is done."""
    answer = rosa.post("/api/training/jobs", json={"stage": stage, "run": run, "options": options})
    assert answer.status_code == 200, answer.text
    job: str = answer.json()["job"]
    until(lambda: store.jobs.get(job).status not in ("queued", "running"), 240)
    assert store.jobs.get(job).status == "done", store.jobs.get(job).error
    return job
