"""Which function does the work of which command; the command line and the worker both go through here."""

from contextlib import nullcontext
from typing import Any

from preferences.cli import open_store
from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.run_files import config_of
from preferences.store import Store
from trainer.check import Check, check
from trainer.evaluate import EvaluatePolicy, EvaluateReward, evaluate_policy, evaluate_reward
from trainer.going_on import folder_of, on_own_base
from trainer.models import Base
from trainer.ppo import Ppo, ppo
from trainer.reward import Reward, reward
from trainer.sample import SampleStage, sample
from trainer.selecting import Select, sample_selected
from trainer.sft import Sft, sft
from trainer.stage import Stage, default_device_name, device_lock, open_base
from trainer.world import ALONE, World, launched

WORK: dict[type[Stage], Any] = {
    Sft: sft,
    SampleStage: sample,
    Select: sample_selected,
    Reward: reward,
    Ppo: ppo,
    Check: check,
    EvaluateReward: evaluate_reward,
    EvaluatePolicy: evaluate_policy,
}
SEVERAL = (Sft, Reward, Ppo)  # can share their work among processes
BY_NAME: dict[str, type[Stage]] = {
    "sft": Sft, "sample": Select, "reward": Reward, "ppo": Ppo, "evaluate": EvaluatePolicy, "check": Check,
}  # fmt: skip


def run(stage: Stage) -> dict[str, Any] | None:
    """Run one command from its options alone, alone on the device; what it found.

    Of several processes, which `accelerate launch` starts, all but the main one find None, and open no database.
    """
    several = launched() > 1
    if several and not isinstance(stage, SEVERAL):
        raise RankloopError("Only sft, reward and ppo run in several processes; start this command without a launcher.")
    world = World.here()
    store = open_store(stage.db) if stage.needs_store() and world.main else None
    lock = device_lock(default_device_name()) if world.first_here else nullcontext()
    with world.quiet(), lock:
        stage = on_own_base(stage, world)
        base = open_base(stage, world) if stage.needs_base() else None
        if base:
            world.agree(base.identity, "base")
        result = execute(stage, store, base, world=world)
        world.leave()
    return result if world.main else None


def execute(
    stage: Stage, store: Store | None, base: Base | None, job: Job | None = None, world: World = ALONE
) -> dict[str, Any]:
    """Run one command on an open store and, if it needs one, a loaded base; what samples notes in its `job`, if it is one,
    how far it is."""
    more: dict[str, Any] = {"job": job} if job and isinstance(stage, SampleStage) else {}
    if world.size > 1:
        more["world"] = world
    try:
        result: dict[str, Any] = WORK[type(stage)](stage, store, base, **more)
    except KeyboardInterrupt:
        note_run(stage, store)
        raise
    note_run(stage, store)
    return result


def note_run(stage: Stage, store: Store | None) -> None:
    """Let the labeler know of the run that has ended, if the stage made one."""
    if store and isinstance(stage, SEVERAL):
        folder = folder_of(stage)
        document = config_of(folder)
        if document:
            store.runs.note(str(folder.resolve()), document, document.get("study"))
