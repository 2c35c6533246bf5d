"""A worker's publication, runs that are under way, and runs that have ended, without a trainer."""

import json
import shutil
from pathlib import Path
from typing import Any

from preferences.jobs import Job
from preferences.records import Policy, Study
from preferences.store import Store
from tests.preferences.make import add_duel

STAGES: dict[str, Any] = {
    "reward": {
        "title": "reward", "description": "Train a reward model.", "type": "object", "required": [],
        "additionalProperties": False,
        "properties": {
            "study": {"type": ["string", "null"], "default": None, "format": "study", "description": "A study.", "main": 0},
            "lr": {"type": "number", "default": 2e-4, "description": "Learning rate.", "main": 1},
            "members": {"type": "integer", "default": 1, "description": "Reward models."},
            "bagging": {"type": "boolean", "default": True, "description": "Draw prompts with replacement."},
        },
    },
    "ppo": {
        "title": "ppo", "description": "Improve a policy.\n\nBy PPO.", "type": "object", "required": [],
        "additionalProperties": False,
        "properties": {
            "study": {"type": ["string", "null"], "default": None, "format": "study", "description": "A study.", "main": 0},
            "reward": {
                "type": ["string", "null"], "default": None, "format": "reward-model", "description": "What judges.",
                "main": 1,
            },
            "start": {"type": ["string", "null"], "default": None, "format": "policy", "description": "Whence.", "main": 2},
            "iterations": {"type": "integer", "default": 12, "description": "Rollouts.", "main": 3},
            "kl_target": {"type": ["number", "null"], "default": None, "description": "Steers beta."},
            "advantage": {"type": "string", "enum": ["gae", "rloo"], "default": "gae", "description": "Against what."},
            "checkpointing": {"type": "boolean", "default": False, "description": "Less memory."},
            "sample_next": {"type": "boolean", "default": False, "description": "Answers from now on."},
        },
    },
    "evaluate": {
        "title": "evaluate", "description": "Queue answers blind.", "type": "object", "required": ["adapter"],
        "additionalProperties": False, "makes_run": False,
        "properties": {
            "study": {"type": ["string", "null"], "default": None, "format": "study", "description": "A study.", "main": 0},
            "adapter": {"type": "string", "format": "adapter", "description": "The policy.", "main": 1},
            "also": {
                "type": "array", "items": {"type": "string"}, "default": [], "format": "policy", "main": 2,
                "description": "Further policies, whose answers are queued among the others.",
            },
            "human": {"type": ["string", "null"], "default": None, "description": "A file of demonstrations.", "main": 3},
            "queue": {"type": "boolean", "default": True, "description": "Queue the answers of all, mixed."},
        },
    },
    "report": {
        "title": "report", "description": "Write a report.", "type": "object", "required": ["run"],
        "additionalProperties": False, "makes_run": False,
        "properties": {"run": {"type": "string", "format": "run", "description": "Of which run.", "main": 0}},
    },
}  # fmt: skip
PLANNED = {
    "fits": True, "total_gib": 3.2, "vram_gib": 24.0, "parts": {"weights": 2.0, "activations": 0.7, "reserve": 0.5},
    "stages": {"ppo": {"options": {"checkpointing": True, "token_budget": 2048}}},
}  # fmt: skip


def publish(store: Store, runs: Path) -> None:
    """A worker that has just begun, whose runs are in that folder."""
    about = {
        "model": "tiny", "quantization": "none", "device": "cpu", "memory_gib": None, "runs": str(runs), "stages": STAGES,
        "threads": 2,
    }  # fmt: skip
    store.workers.publish("box:1", about)


def begin(store: Store, job: Job, folder: Path, steps: int, of: int = 12, seconds: float = 3.0) -> None:
    """The job is this far in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.parent / ".logs" / f"{job.id}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text(f"ppo: begins\n\rppo 8%\rppo {steps}/{of}\n")
    (folder / "config.json").write_text(json.dumps({"stage": "ppo", "state": "started", "config": {}, "prompts": 90}))
    lines, looks = [], []
    for step in range(1, steps + 1):
        time = (job.started or 0.0) + seconds * step
        lines.append(
            {
                "time": time,
                "step": step,
                "steps": of,
                "objective/scores": 1.2 + step / 10,
                "objective/kl": step / 5,
                "val/response_length": 60 + step,
                "val/eos_rate": 0.8 + step / 100,
                "policy/entropy_avg": 2 - step / 20,
                "seconds/generate": 1.5,
                "seconds/score": 0.5,
                "seconds/train": 1 + step / 50,
            }
        )
        if step % 5 == 0:
            rows = [
                {
                    "prompt": "Why?",
                    "reference": "Because.",
                    "response": f"Because of <b>{step}</b>.",
                    "score": step / 10,
                    "kl": 0.25,
                }
            ]
            looks.append({"step": step, "samples": rows})
    for name, records in (("metrics.jsonl", lines), ("samples.jsonl", looks)):
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    store.jobs.beat(job, {"folder": str(folder), "log": str(log)})


def document(stage: str, folder: Path, **more: Any) -> dict[str, Any]:
    """A run's config.json."""
    config = {"out": str(folder), "lr": 1e-4, "name": None, **more.pop("config", {})}
    return {
        "stage": stage, "state": "finished", "config": config, "base": {"base": "tiny", "quantization": "none"},
        "versions": {"rankloop": "0.1"}, "started": 5.0, "command": ["trainer", stage, "--out", f"{folder}-again"], **more,
    }  # fmt: skip


def add_loop(store: Store, study: Study, runs: Path, who: dict[str, int]) -> dict[str, str]:
    """SFT, a reward model from the rankings of `who` (pseudonyms), and PPO from both; name -> id of its node."""
    folders = {name: runs / name for name in ("sft-1", "reward-1", "ppo-1")}
    for folder in folders.values():
        (folder / "adapter").mkdir(parents=True)
        for file in ("rankloop.json", "adapter_model.safetensors"):
            (folder / "adapter" / file).write_text(folder.name)
    at = {name: str(folder / "adapter") for name, folder in folders.items()}
    store.policies.add(Policy("s1", "sft-1", "sft", "tiny", "none", at["sft-1"], data_hash="dd"))
    store.policies.add(Policy("p1", "ppo-1", "ppo", "tiny", "none", at["ppo-1"], "s1", "abcd"))
    notes = {
        "sft-1": document(
            "sft", folders["sft-1"], policy="s1", loss=1.23456, demonstrations=300, data_hash="dd",
            config={"demonstrations": "d.jsonl"},
        ),
        "reward-1": document(
            "reward", folders["reward-1"], data_hash="abcd", comparisons=20, rankings=sum(who.values()), annotators=who,
            heldout_accuracy={"value": 0.71, "low": 0.6, "high": 0.8},
        ),
        "ppo-1": document(
            "ppo", folders["ppo-1"], policy="p1", parent="s1", reference="s1", judged_by=at["reward-1"], loss=0.25
        ),
    }  # fmt: skip
    ids = {name: store.runs.note(str(folders[name]), note, study.id).id for name, note in notes.items()}
    return {
        "sft": "s1", "ppo": "p1", "reward": ids["reward-1"], "rankings": "rankings abcd",
        "demonstrations": "demonstrations dd",
    }  # fmt: skip


def add_checkpoints(store: Store, run: Path, *steps: int) -> None:
    """Policies of a PPO run as it was after those iterations."""
    for step in steps:
        folder = run / "snapshots" / f"{step:06d}"
        shutil.copytree(run / "adapter", folder)
        store.policies.add(Policy(f"p{step}", f"{run.name}@{step}", "ppo", "tiny", "none", str(folder), "s1", "abcd"))


def show_training(store: Store, runs: Path) -> None:
    """Everything that the Training and Lineage pages can show: a worker, jobs in every state, a loop that has gone round."""
    publish(store, runs)
    gates = {"min_rankings": 200, "min_accuracy": 0.6, "min_win_rate": 0.5}
    study = store.studies.set_status(store.studies.create("trained", plan=gates), "paused")
    add_loop(store, study, runs, {"annotator-1": 20, "annotator-2": 5})
    add_checkpoints(store, runs / "ppo-1", 4, 8)
    add_duel(store, study, [1, 1, 0.5, 1, 0, 1, 0, 1] * 5, ("p1", "s1"), about="Trained", lengths=(6, 5))
    for name in ("reward-1", "ppo-1"):
        (runs / name / "report").mkdir()
        (runs / name / "report" / "report.html").write_text(f"<!doctype html><title>{name}</title>")
    actor = store.annotators.all()[0].id if store.annotators.all() else ""
    for name, error in (("ppo-0", "lr must be above 0, not 0.0."), ("ppo-2", "")):
        store.jobs.launch("ppo", {"out": str(runs / name), "iterations": 12}, actor)
        job = store.jobs.claim("box:1", 60)
        assert job is not None
        if error:
            store.jobs.finish(job, error)
        else:
            begin(store, job, runs / name, 7)
    planned = store.jobs.launch("plan", {"stage": "ppo", "options": {"iterations": 12}, "vram": 24.0}, actor)
    job = store.jobs.claim("box:1", 60)
    assert job is not None and job.id == planned.id
    store.jobs.beat(job, {"plan": PLANNED, "text": "tiny fits on 24 GiB.\n\nppo takes most, 3.2 GiB."})
    store.jobs.finish(job)
    mixed = {"also": ["ppo-1@4"], "human": "data/heldout.jsonl", "queue": True}
    store.jobs.launch("evaluate", {"adapter": str(runs / "ppo-1" / "adapter"), **mixed}, actor)
    job = store.jobs.claim("box:1", 60)
    assert job is not None
    wins = {"value": 0.66, "low": 0.55, "high": 0.76, "n": 40}
    said = {"policy": "ppo-1", "against": "sft-1", "prompts": 40, "win_rate": wins, "queued": 38, "equal": 2}
    said |= {"human": 9, "others": {"ppo-1@4": {"length": 58.2, "win_rate": {**wins, "value": 0.61}}}}
    store.jobs.beat(job, {"result": said})
    store.jobs.finish(job)
    store.jobs.launch("reward", {"out": str(runs / "reward-2"), "lr": 1e-3}, actor)
    store.promotions.promote(study, store.policies.get("sft-1"), actor, "The first that ends in time.")
    store.promotions.promote(study, store.policies.get("ppo-1"), actor, "It wins 61% [54, 68].")
