"""This project's reward model, through trainer's public classes, on the rankings that TRL gets as pairs."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from protocol import serve, versions

from trainer.batches import Example
from trainer.elements import distinct
from trainer.models import load_base
from trainer.ranked import Ranked
from trainer.reward import Reward
from trainer.reward_material import split_off
from trainer.reward_trainer import RewardTrainer
from trainer.roles import Roles
from trainer.runs import Run


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Train once; seconds of training, pairs that it learned from, and the scores of the held-out answers."""
    base = load_base(settings["model"], "none")
    ranked, held = ([ranked_of(one) for one in settings[name]] for name in ("train", "held"))
    with tempfile.TemporaryDirectory() as name:
        options = {"epochs": settings["epochs"], "batch": settings["batch"], "rank": settings["rank"]}
        config = Reward(out=Path(name) / "run", seed=settings["seed"], **options | settings["options"])
        log = Run(config.out)
        log.start("reward", config, base)
        learned, validation = split_off(ranked, config.validation, config.seed)
        trainer = RewardTrainer(config, Roles(base), learned, log, validation=validation)
        started, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    examples, rows = distinct(held)
    with torch.no_grad():
        found = trainer.head(trainer.states(examples, "held-out")).squeeze(-1).tolist()
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "pairs": config.epochs * sum(len(r.pairs) for r in learned),
        "scores": [[found[i] for i in row] for row in rows], "threads": torch.get_num_threads(),
        "versions": versions("rankloop", "torch", "transformers", "peft"), "options": settings["options"],
    }  # fmt: skip


def ranked_of(one: dict[str, Any]) -> Ranked:
    """A comparison out of token ids and pairs."""
    examples = [Example(one["prompt"], response) for response in one["responses"]]
    return Ranked(one["id"], examples, [""] * len(examples), [(b, w, 1.0) for b, w in one["pairs"]], [])


if __name__ == "__main__":
    serve(run)
