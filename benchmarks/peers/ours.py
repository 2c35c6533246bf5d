"""This project's PPO, through trainer's public classes, on the workload that the peers get."""

import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from prepare import base_of
from protocol import of_length, serve, versions

from preferences.records import Policy, Prompt, content_id
from preferences.run_files import METRICS
from trainer.batches import Example
from trainer.ppo import Ppo
from trainer.ppo_trainer import PpoTrainer
from trainer.runs import Run


class Watched(Run):
    """A run that keeps when each update was logged: wall-clock and processor seconds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """Here an update begins or ends."""
        self.marks.append((time.perf_counter(), time.process_time()))

    def log(self, values: Mapping[str, Any], name: str = METRICS) -> None:
        """The end of an update, where it is its metrics."""
        super().log(values, name)
        if name == METRICS:
            self.mark()


def config_of(settings: dict[str, Any], folder: Path) -> Ppo:
    """The workload's sizes and settings["options"]; everything else at its default."""
    options: dict[str, Any] = {
        "out": folder / "run", "model": settings["model"], "reward": Path(settings["reward_model"]),
        "iterations": settings["updates"], "episodes": settings["episodes"], "beta": settings["beta"],
        "temperature": settings["temperature"], "max_new_tokens": settings["new_tokens"], "rank": settings["rank"],
        "missing_eos_penalty": settings["missing_eos_penalty"], "seed": settings["seed"],
    }  # fmt: skip
    return Ppo(**options | settings["options"])


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """All updates of one run."""
    base = base_of(settings)
    start = Policy("start", "start", "base", base.id, base.quantization)
    prompts = [Prompt(content_id(m), m, cluster="", split="train") for m in settings["messages"]]
    with tempfile.TemporaryDirectory() as name:
        config, run_ = config_of(settings, Path(name)), Watched(Path(name) / "run")
        trainer = PpoTrainer(config, base, start, run_)
        run_.start("ppo", config, base)
        run_.mark()
        trainer.train(prompts)
        lines = [json.loads(line) for line in (run_.folder / METRICS).read_text().splitlines()]
    if settings["ignore_eos"]:
        assert all(line["val/response_length"] == settings["new_tokens"] for line in lines), (
            "An answer has ended early."
        )
    trained = sum(p.numel() for role in ("policy", "value") for p in trainer.roles.parameters(role))
    return {
        "updates": [update(line, *marks) for line, marks in zip(lines, itertools.pairwise(run_.marks), strict=True)],
        "reward_pass_seconds": reward_pass(trainer, settings) if trainer.reward else None,
        "versions": versions("rankloop", "torch", "transformers", "peft"),
        "threads": torch.get_num_threads(),
        "trained_parameters": trained,
        "options": settings["options"],
    }


def update(line: dict[str, Any], before: tuple[float, float], after: tuple[float, float]) -> dict[str, Any]:
    """One update in the form that every runner reports."""
    phases = {name: line[f"seconds/{name}"] for name in ("generate", "score", "train")}
    return {
        "seconds": after[0] - before[0], "cpu_seconds": after[1] - before[1], "phases": phases,
        "scores": line["objective/scores"], "kl": line["objective/kl"],
    }  # fmt: skip


def reward_pass(trainer: PpoTrainer, settings: dict[str, Any]) -> float:
    """Seconds of one pass of the reward model over a rollout, median of three; to be added to a peer that has none."""
    draw, vocabulary = random.Random(settings["seed"]), len(trainer.roles.base.tokenizer)
    answers = [[draw.randrange(vocabulary) for _ in range(settings["new_tokens"])] for _ in settings["prompts"]]
    of_length(answers, settings["new_tokens"])
    examples = [Example(ids, answer) for ids, answer in zip(settings["prompts"], answers, strict=True)]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        trainer.reward.score_all(examples, trainer.config.token_budget)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    serve(run)
