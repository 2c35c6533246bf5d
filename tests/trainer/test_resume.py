"""A run that was killed and resumed equals one that was not, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_policy, add_prompts, metrics, rank, save_adapter, state
from tests.trainer.make import is_one_sentence
from tests.waiting import until
from trainer import worker
from trainer.__main__ import main
from trainer.models import Quantization, load_base
from trainer.ppo import Ppo, ppo
from trainer.ppo_trainer import PpoTrainer
from trainer.reward import Reward, reward
from trainer.reward_trainer import RewardTrainer
from trainer.sft import Sft, sft
from trainer.worker import Worker, work

KILLS = 10
OPTIONS: dict[str, Any] = {
    "iterations": 6, "episodes": 8, "samples": 2, "epochs": 2, "minibatches": 2, "max_new_tokens": 8,
    "lr": 1e-3, "normalise": True, "kl_target": 2.0, "kl_horizon": 50.0, "show_every": 2,
}  # fmt: skip


@pytest.fixture
def prepared(store: Store, study: Study, llama_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Prompts, an SFT policy and a reward model on the tiny Llama; the options that name them."""
    add_prompts(store, study, 8)
    base = load_base(str(llama_folder), "none")
    add_policy(store, study, base, save_adapter(llama_folder, tmp_path / "sft"))
    judge = save_adapter(llama_folder, tmp_path / "reward", seed=2, head=True)
    return {**OPTIONS, "db": store.path, "model": str(llama_folder), "reward": judge, "start": "sft"}


# A reward that draws from every generator there is, as a user's may.
NOISY = """
import random
import numpy
import torch
def reward(prompts, responses):
    return [random.random() + numpy.random.random() + float(torch.rand(1)) for _ in responses]
"""


def ways(folder: Path) -> dict[str, dict[str, Any]]:
    """Options by what they change of the state of a run."""
    (file := folder / "noisy.py").write_text(NOISY)
    noisy = {"functions": (f"{file}:reward",)}
    return {"adapter": noisy, "trunk": {"value": "trunk", **noisy}, "rloo": {"advantage": "rloo", **noisy}}


def lines(run: Path) -> list[dict[str, Any]]:
    """What a run logged, timings aside."""
    return [
        {k: v for k, v in line.items() if k not in ("time", "eps") and not k.startswith("seconds/")}
        for line in metrics(run)
    ]


def weights(run: Path) -> bytes:
    """The trained adapter's file."""
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("how", ["adapter", "trunk", "rloo"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    store: Store,
    study: Study,
    prepared: dict[str, Any],
    llama_folder: Path,
    tmp_path: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in the middle of an iteration, after it was logged and before its checkpoint; then prompts are imported."""
    prepared |= ways(tmp_path)[how]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    ppo(Ppo(**prepared, out=whole), store, load_base(str(llama_folder), "none"))
    state_dict = PpoTrainer.state_dict

    def interrupted(self: PpoTrainer) -> Any:
        if self.done == 3:
            raise KeyboardInterrupt
        return state_dict(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PpoTrainer, "state_dict", interrupted)
        ppo(Ppo(**prepared, out=broken), store, load_base(str(llama_folder), "none"))
    assert (len(metrics(broken)), state(broken)["state"]) == (3, "interrupted")
    assert store.policies.find("broken") is None
    add_prompts(store, study, 14)
    result = ppo(Ppo(db=store.path, resume=broken), store, load_base(str(llama_folder), "none"))
    assert lines(broken) == lines(whole)
    assert weights(broken) == weights(whole)
    assert (result["policy"], result["iterations"]) == ("broken", 6)
    assert state(broken)["state"] == "finished"
    looks = [json.loads(line)["step"] for line in (broken / "samples.jsonl").read_text().splitlines()]
    assert looks == [2, 4, 6]
    with pytest.raises(RankloopError, match="is finished; only a stopped ppo run can go on"):
        ppo(Ppo(db=store.path, resume=broken), store, load_base(str(llama_folder), "none"))


def stopped(store: Store, prepared: dict[str, Any], folder: Path, out: Path) -> None:
    """A run that ended after its first iteration, by Ctrl-C in the second one."""
    step = PpoTrainer.step

    def stopping(self: PpoTrainer, some: Any) -> Any:
        if self.done == 1:
            raise KeyboardInterrupt
        return step(self, some)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PpoTrainer, "step", stopping)
        ppo(Ppo(**prepared, out=out), store, load_base(str(folder), "none"))


@pytest.mark.usefixtures("own_cache")
def test_a_run_goes_on_with_its_own_base(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the embedded model nor what is usual on this device; another one that is named is refused."""
    add_prompts(store, study, 4)
    base, out = load_base(str(llama_folder), "int8"), tmp_path / "run"
    add_policy(store, study, base, save_adapter(llama_folder, tmp_path / "sft", "int8"))
    (file := tmp_path / "brief.py").write_text("def reward(prompts, responses):\n    return [0.0 for _ in responses]\n")
    config = Ppo(
        db=store.path, model=str(llama_folder), quantize="int8", out=out, functions=(f"{file}:reward",), iterations=2,
        episodes=4, max_new_tokens=4,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PpoTrainer, "sample", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ppo(config, store, base)
    words = ["ppo", "--db", str(store.path), "--resume", str(out)]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--quantize", "none"])
    assert "int8" in capsys.readouterr().err
    with suppress(SystemExit):
        main(words)
    assert state(out)["state"] == "finished"


def test_a_run_goes_on_with_its_own_prompts_or_not_at_all(
    store: Store, study: Study, prepared: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    """One of an earlier version, which kept no list, goes on as long as there are as many; none goes on without one of its
    own, which its folder keeps as it was."""
    out, base = tmp_path / "run", load_base(str(llama_folder), "none")
    stopped(store, {**prepared, "iterations": 2}, llama_folder, out)
    ids = [prompt.id for prompt in store.prompts.all("train", study.id)]
    assert json.loads((out / "prompts.json").read_text()) == ids
    before = (out / "config.json").read_text()
    with store.write() as db:
        db.execute("DELETE FROM study_prompts WHERE prompt = ?", [ids[3]])
    with pytest.raises(RankloopError, match=f"1 of the 8 prompts .* any more .*{ids[3]}.*begin it again") as error:
        ppo(Ppo(db=store.path, resume=out), store, base)
    assert is_one_sentence(str(error.value)) and (out / "config.json").read_text() == before
    (out / "prompts.json").unlink()
    with pytest.raises(RankloopError, match=r"did not keep which prompts .*8 then, 7 now") as error:
        ppo(Ppo(db=store.path, resume=out), store, base)
    assert is_one_sentence(str(error.value)) and (out / "config.json").read_text() == before
    store.studies.add_prompts(study, [ids[3]])
    assert ppo(Ppo(db=store.path, resume=out), store, base)["iterations"] == 2


def test_a_study_stays_the_one_that_the_run_was_begun_with(
    store: Store, study: Study, prepared: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    """Also where it is not the default one any more."""
    out = tmp_path / "run"
    stopped(store, {**prepared, "iterations": 2}, llama_folder, out)
    store.studies.create("other")
    store.studies.set_status(study, "closed")
    assert store.studies.default() != study
    assert ppo(Ppo(db=store.path, resume=out), store, load_base(str(llama_folder), "none"))["iterations"] == 2


def test_a_trunk_of_an_earlier_version_is_refused_and_others_go_on(
    store: Store, prepared: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    """It had adapter and head in one group of the optimizer, at the value's learning rate; and torch's generator alone."""
    for value in ("trunk", "adapter"):
        out = tmp_path / value
        stopped(store, {**prepared, "iterations": 2, "value": value}, llama_folder, out)
        (file,) = (out / "checkpoints").glob("*.pt")
        kept = torch.load(file, weights_only=True)
        kept["torch_rng"] = kept.pop("generators")["torch"]
        if value == "trunk":
            first, second = kept["optimizer"]["param_groups"]
            kept["optimizer"]["param_groups"] = [{**second, "params": first["params"] + second["params"]}]
        torch.save(kept, file)
    resumed = Ppo(db=store.path, resume=tmp_path / "trunk")
    with pytest.raises(RankloopError, match=r"begun by a version .* begin it again under another --out") as error:
        ppo(resumed, store, load_base(str(llama_folder), "none"))
    assert is_one_sentence(str(error.value)) and len(metrics(tmp_path / "trunk")) == 1
    resumed = Ppo(db=store.path, resume=tmp_path / "adapter")
    assert ppo(resumed, store, load_base(str(llama_folder), "none"))["iterations"] == 2


def test_what_cannot_be_resumed_is_one_sentence(store: Store, prepared: dict[str, Any], tmp_path: Path) -> None:
    base = load_base(prepared["model"], "none")
    with pytest.raises(RankloopError, match="holds no run"):
        ppo(Ppo(db=store.path, resume=tmp_path), store, base)
    with pytest.raises(RankloopError, match="--resume goes on in its own folder"):
        Ppo(db=store.path, resume=tmp_path, out=tmp_path)
    with pytest.raises(RankloopError, match="give --out"):
        Ppo(db=store.path)


@pytest.mark.usefixtures("own_cache")
def test_a_job_whose_worker_died_is_taken_up_where_it_was(
    store: Store, prepared: dict[str, Any], llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next worker goes on with the run instead of saying that its folder is taken."""
    out = tmp_path / "broken"
    spec = {k: v for k, v in prepared.items() if k != "db"} | {"reward": str(prepared["reward"]), "out": str(out)}
    job = store.jobs.add("ppo", spec)
    step, moments = PpoTrainer.step, []

    def dying(self: PpoTrainer, some: Any) -> Any:
        if self.done == 2:
            raise SystemExit  # as good as dead: nothing is written any more
        return step(self, some)

    config = Worker(db=store.path, model=str(llama_folder), once=True, runs=store.path.parent / "runs")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(PpoTrainer, "step", dying)
        patch.setattr(type(store.jobs), "give_back", lambda *_: None)
        work(config)
    assert (store.jobs.get(job.id).status, state(out)["state"]) == ("running", "started")
    monkeypatch.setattr(worker, "STALE_SECONDS", -1)
    monkeypatch.setattr(PpoTrainer, "step", lambda self, some: moments.append(self.done) or step(self, some))
    work(config)
    assert (store.jobs.get(job.id).status, moments) == ("done", [2, 3, 4, 5])
    assert store.policies.get("broken").adapter == str((out / "adapter").resolve())


def command(db: Path, *more: str) -> subprocess.Popen[bytes]:
    """`trainer ppo` in a process of its own."""
    words = [sys.executable, "-m", "trainer", "ppo", "--db", str(db), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def options(prepared: dict[str, Any], out: Path) -> list[str]:
    """The same options as words."""
    words = []
    for name, value in {**prepared, "out": out}.items():
        if name != "db":
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def wait_for(process: subprocess.Popen[bytes], run: Path, after: float) -> None:
    """Until the run says that it began, or went on, after that time."""
    while process.poll() is None:
        try:
            said = state(run)
        except (OSError, RankloopError):
            said = {}
        if max(said.get("started", 0), said.get("resumed", 0)) > after:
            return
        time.sleep(0.01)
    assert process.stderr is not None
    raise AssertionError(process.stderr.read().decode())


def logged(run: Path, after: float) -> bool:
    """Whether an iteration has ended after that time."""
    try:
        return bool(metrics(run)[-1]["time"] > after)
    except (OSError, IndexError, ValueError):  # no file, no line, or half of one
        return False


@pytest.mark.resume
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("quantize", "how"), [("none", "adapter"), ("int8", "adapter"), ("none", "trunk"), ("int8", "rloo")]
)
def test_killed_at_random_points(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, quantize: Quantization, how: str
) -> None:
    """SIGKILL ten times in one run: by turns somewhere in the next one and a half iterations, and in those after a whole one
    (loading takes longer than the former)."""
    add_prompts(store, study, 8)
    base = load_base(str(llama_folder), quantize)
    add_policy(store, study, base, save_adapter(llama_folder, tmp_path / "sft", quantize))
    judge = save_adapter(llama_folder, tmp_path / "reward", quantize, seed=2, head=True)
    prepared = {
        **OPTIONS,
        **ways(tmp_path)[how],
        "iterations": 16,
        "db": store.path,
        "model": str(llama_folder),
        "quantize": quantize,
        "reward": judge,
        "start": "sft",
    }
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = command(store.path, *options(prepared, whole))
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    written = state(whole)
    iteration = (written["ended"] - written["started"]) / prepared["iterations"]
    draw = random.Random(7)
    for kill in range(KILLS):
        began = time.time()
        more = options(prepared, broken) if kill == 0 else ["--resume", str(broken)]
        process = command(store.path, *more)
        wait_for(process, broken, began)
        if kill % 2:
            until(lambda: logged(broken, began) or process.poll() is not None)  # noqa: B023
        time.sleep(draw.uniform(0, 1.5 * iteration))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert state(broken)["state"] != "finished", "Nothing was left to be killed."
    process = command(store.path, "--resume", str(broken))
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    assert lines(broken) == lines(whole)
    assert weights(broken) == weights(whole)
    assert metrics(broken)[0]["time"] < state(broken)["resumed"], "It went on, and did not begin again."


class Death(SystemExit):
    """As good as a kill: nothing is written any more."""


@pytest.mark.parametrize("dies_at", [1, 3, 6, 9])
def test_a_killed_reward_run_goes_on_as_if_nothing_had_happened(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Two members, ties, a validation set: killed in the first member, in the second, and between two checkpoints."""
    monkeypatch.setattr("trainer.reward_material.LEAST_FOR_VALIDATION", 4)
    for number, prompt in enumerate(add_prompts(store, study, 12)):
        comparison = add_comparison(store, study, prompt, ["Tea!", "Bread.", "No."])
        rank(store, comparison, [[0, 1], [2]] if number % 4 == 0 else [[0], [1], [2]])
    options: dict[str, Any] = {
        "db": store.path, "model": str(llama_folder), "quantize": "none", "members": 2, "batch": 2, "epochs": 1.0,
        "ties": "davidson", "validation": 0.2, "save_every": 2,
    }  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reward(Reward(**options, out=whole), store, load_base(str(llama_folder), "none"))
    gradients, calls = RewardTrainer.gradients, []

    def dying(self: RewardTrainer, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == dies_at:
            raise Death
        return gradients(self, batch)

    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(RewardTrainer, "gradients", dying)
        reward(Reward(**options, out=broken), store, load_base(str(llama_folder), "none"))
    assert state(broken)["state"] == "started"
    monkeypatch.setattr(RewardTrainer, "gradients", lambda self, batch: calls.append(2) or gradients(self, batch))
    reward(Reward(db=store.path, resume=broken), store, load_base(str(llama_folder), "none"))
    assert lines(broken) == lines(whole)
    for member in ("member-0", "member-1"):
        file = Path("adapter") / member / "adapter_model.safetensors"
        assert (broken / file).read_bytes() == (whole / file).read_bytes()
    assert state(broken)["state"] == "finished"
    assert calls.count(2) <= len(lines(whole)) - dies_at + 1, "It began again."
    with pytest.raises(RankloopError, match="is finished; only a stopped reward run can go on"):
        reward(Reward(db=store.path, resume=broken), store, load_base(str(llama_folder), "none"))


def test_a_run_on_data_that_have_changed_begins_again(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Annotators go on while the worker is dead: what it learned from is not what there is."""
    prompts = add_prompts(store, study, 8)
    for prompt in prompts[:6]:
        rank(store, add_comparison(store, study, prompt, ["Tea!", "No."]), [[0], [1]])
    out = tmp_path / "run"
    options: dict[str, Any] = {
        "db": store.path,
        "model": str(llama_folder),
        "quantize": "none",
        "batch": 2,
        "save_every": 1,
    }
    gradients, calls = RewardTrainer.gradients, []

    def dying(self: RewardTrainer, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise Death
        return gradients(self, batch)

    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(RewardTrainer, "gradients", dying)
        reward(Reward(**options, out=out), store, load_base(str(llama_folder), "none"))
    rank(store, add_comparison(store, study, prompts[6], ["Tea!", "No."]), [[1], [0]])
    reward(Reward(db=store.path, resume=out), store, load_base(str(llama_folder), "none"))
    assert "have changed since" in capsys.readouterr().err
    assert state(out)["comparisons"] == 7
    assert [line["step"] for line in lines(out)] == list(range(len(lines(out))))


@pytest.mark.parametrize("dies_at", [1, 4, 7])
def test_a_killed_sft_run_goes_on_from_its_newest_checkpoint(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, dies_at: int
) -> None:
    """A half written checkpoint is passed over; what was logged after the whole one is dropped and logged again."""
    del study
    talks = [[{"role": "user", "content": f"Hello {i}?"}, {"role": "assistant", "content": "Yes."}] for i in range(8)]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    out = tmp_path / "run"
    options: dict[str, Any] = {
        "db": store.path, "model": str(llama_folder), "quantize": "none", "demonstrations": tmp_path / "talks.jsonl",
        "epochs": 2.0, "batch": 2, "save_every": 2, "out": out,
    }  # fmt: skip
    base, calls = load_base(str(llama_folder), "none"), []

    def dying(*_: object) -> None:
        calls.append(1)
        if len(calls) == dies_at:
            raise Death

    base.model.register_forward_pre_hook(dying)
    with pytest.raises(Death):
        sft(Sft(**options), store, base)
    assert state(out)["state"] == "started"
    (out / "checkpoints" / "checkpoint-99").mkdir(parents=True)  # as a kill leaves it
    base, calls = load_base(str(llama_folder), "none"), []
    base.model.register_forward_pre_hook(lambda *_: calls.append(2) and None)
    result = sft(Sft(db=store.path, resume=out), store, base)
    done = (dies_at - 1) // 2 * 2
    assert len(calls) == 8 - done
    assert [line["step"] for line in metrics(out) if "loss" in line] == list(range(1, 9))
    assert (state(out)["state"], result["policy"]) == ("finished", "run")
    kept = sorted(path.name for path in (out / "checkpoints").glob("checkpoint-*") if path.name != "checkpoint-99")
    assert len(kept) <= 2 and "checkpoint-8" in kept


def test_a_finished_run_whose_worker_died_before_it_could_say_so_is_not_done_again(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: None
) -> None:
    del study, own_cache
    talk = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
    (tmp_path / "talks.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    job = store.jobs.add("sft", {"out": str(tmp_path / "run"), "demonstrations": str(tmp_path / "talks.jsonl")})
    config = Worker(db=store.path, model=str(llama_folder), quantize="none", once=True, waiting=0)

    def dying(*_: object) -> None:
        raise Death

    with monkeypatch.context() as patch, pytest.raises(Death):
        patch.setattr(type(store.jobs), "finish", dying)
        patch.setattr(type(store.jobs), "give_back", lambda *_: None)
        work(config)
    assert (store.jobs.get(job.id).status, state(tmp_path / "run")["state"]) == ("running", "finished")
    ended = state(tmp_path / "run")["ended"]
    monkeypatch.setattr(worker, "STALE_SECONDS", -1)
    work(config)
    assert store.jobs.get(job.id).status == "done"
    assert state(tmp_path / "run")["ended"] == ended
    again = store.jobs.add("sft", {"out": str(tmp_path / "run"), "demonstrations": str(tmp_path / "talks.jsonl")})
    work(config)
    assert "already holds a run" in store.jobs.get(again.id).error
