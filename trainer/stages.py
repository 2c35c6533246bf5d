"""Which function does the work of which command; the command line and the worker both go through here."""

from typing import Any

from preferences.cli import open_store
from preferences.jobs import Job
from preferences.run_files import config_of
from preferences.store import Store
from trainer.check import Check, check
from trainer.evaluate import EvaluatePolicy, EvaluateReward, evaluate_policy, evaluate_reward
from trainer.going_on import folder_of
from trainer.models import Base
from trainer.ppo import Ppo, ppo
from trainer.reward import Reward, reward
from trainer.sample import SampleStage, sample
from trainer.selecting import Select, sample_selected
from trainer.sft import Sft, sft
from trainer.stage import Stage, default_device_name, device_lock, open_base

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
BY_NAME: dict[str, type[Stage]] = {
    "sft": Sft, "sample": Select, "reward": Reward, "ppo": Ppo, "evaluate": EvaluatePolicy, "check": Check,
}  # fmt: skip


def run(stage: Stage) -> dict[str, Any]:
    """Run one command from its options alone, alone on the device; what it found."""
    store = open_store(stage.db) if stage.needs_store() else None
    with device_lock(default_device_name()):
        return execute(stage, store, open_base(stage))


def execute(stage: Stage, store: Store | None, base: Base, job: Job | None = None) -> dict[str, Any]:
    """Run one command on an open store and a loaded base; what samples notes in its `job`, if it is one, how far it is."""
    more = {"job": job} if job and isinstance(stage, SampleStage) else {}
    try:
        result: dict[str, Any] = WORK[type(stage)](stage, store, base, **more)
    except KeyboardInterrupt:
        note_run(stage, store)
        raise
    note_run(stage, store)
    return result


def note_run(stage: Stage, store: Store | None) -> None:
    """Let the labeler know of the run that has ended, if the stage made one."""
    if store and isinstance(stage, Sft | Reward | Ppo):
        folder = folder_of(stage)
        document = config_of(folder)
        if document:
            store.runs.note(str(folder.resolve()), document, document.get("study"))
