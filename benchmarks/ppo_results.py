"""What the runs of a comparison with TRL amount to: medians, ratios, the time to a reward, a table."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

WINDOW = 3  # updates whose mean score counts in the time to reward
SAMPLES = 4

TRL, TRL_LORA, CLASSIC, OURS, OURS_4 = "trl", "trl_lora_value", "classic", "ours", "ours_four_samples"
NAMES = {
    TRL: "TRL 1.12.0, as documented",
    TRL_LORA: "TRL 1.12.0, LoRA value model",
    CLASSIC: "TRL 0.11.4, classic",
    OURS: "rankloop",
    OURS_4: f"rankloop, {SAMPLES} samples a prompt",
}


@dataclass(slots=True)
class Measured:
    """Everything that the runs said. `runs`: one document a run, with its contestant, alternation and load averages."""

    workload: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)

    def median(self, contestant: str, what: str = "seconds") -> float | None:
        """Median over the contestant's counted updates of all timing runs; of "peak_rss_mb" and the like, over its runs."""
        if what in {"seconds", "cpu_seconds"}:
            values = [row[what] for row in self.counted(contestant)]
        else:
            values = [run[what] for run in self.timed(contestant)]
        return statistics.median(values) if values else None

    def timed(self, contestant: str) -> list[dict[str, Any]]:
        """The contestant's timing runs."""
        return [run for run in self.runs if run["contestant"] == contestant and run["part"] == "timing"]

    def counted(self, contestant: str) -> list[dict[str, Any]]:
        """The counted updates of its timing runs."""
        return [row for run in self.timed(contestant) for row in counted_of(run)]

    def speed(self, peer: str, ours: str, *, scored: bool = False) -> float | None:
        """How many times as long as ours the peer's update takes, with our reward pass added if it is to be `scored`: the
        median over the alternations, in each of which the two ran soon after each other."""
        theirs, own = self.of_alternations(peer), self.of_alternations(ours)
        extra = {run["alternation"]: run["reward_pass_seconds"] for run in self.timed(OURS)} if scored else {}
        both = [n for n in theirs if n in own and (n in extra or not scored)]
        return statistics.median((theirs[n] + extra.get(n, 0.0)) / own[n] for n in both) if both else None

    def of_alternations(self, contestant: str) -> dict[int, float]:
        """Alternation -> median seconds of its counted updates."""
        return {
            run["alternation"]: statistics.median(row["seconds"] for row in counted_of(run))
            for run in self.timed(contestant)
        }

    def phases(self, contestant: str) -> dict[str, float]:
        """Median seconds of each phase over the counted updates."""
        rows = [row["phases"] for row in self.counted(contestant)]
        return {name: statistics.median(row[name] for row in rows) for name in (rows[0] if rows else {})}


def counted_of(run: dict[str, Any]) -> list[dict[str, Any]]:
    """A timing run's updates, but for the first, which warms up."""
    updates: list[dict[str, Any]] = run["updates"]
    return updates[1:]


def best_window(scores: Sequence[float]) -> float:
    """The best mean score of WINDOW consecutive updates."""
    return max(statistics.mean(scores[i : i + WINDOW]) for i in range(len(scores) - WINDOW + 1))


def seconds_to(updates: Sequence[dict[str, Any]], target: float) -> float | None:
    """Seconds from the start to the end of the first WINDOW consecutive updates whose mean score is at least the target."""
    for end in range(WINDOW, len(updates) + 1):
        if statistics.mean(row["scores"] for row in updates[end - WINDOW : end]) >= target:
            return sum(row["seconds"] for row in updates[:end])
    return None


def reward_result(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Target, each side's seconds to it, and their ratio; empty until both sides have run."""
    trl = [run for run in runs if run["part"] == "reward" and run["contestant"] == TRL]
    ours = [run for run in runs if run["part"] == "reward" and run["contestant"] == OURS]
    if not trl or not ours:
        return {}
    best = max(trl, key=lambda run: best_window([row["scores"] for row in run["updates"]]))
    target = best_window([row["scores"] for row in best["updates"]])
    theirs, own = seconds_to(best["updates"], target), seconds_to(ours[0]["updates"], target)
    return {
        "target": target,
        "trl_learning_rate": best["lr"],
        "trl_seconds": theirs,
        "ours_seconds": own,
        "ours_best": best_window([row["scores"] for row in ours[0]["updates"]]),
        "ratio": theirs / own if theirs and own else None,
    }


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """None until both have been measured."""
    return numerator / denominator if numerator and denominator else None


def document(measured: Measured) -> dict[str, Any]:
    """What --json writes. Ratios of seconds are the peer's by ours (`Measured.speed`), those of memory ours by the peer's."""
    seconds = {name: measured.median(name) for name in NAMES}
    memory = {name: measured.median(name, "peak_rss_mb") for name in NAMES}
    scored = measured.median(OURS, "reward_pass_seconds")
    reached = reward_result(measured.runs)
    peers = {
        "speed_ratio.one_sample": NAMES[TRL],
        "speed_ratio.four_samples": f"{NAMES[TRL]}, on as many different prompts: it knows no samples of one prompt",
        "memory_ratio": NAMES[TRL],
        "lora_value.speed_ratio": NAMES[TRL_LORA],
        "lora_value.memory_ratio": NAMES[TRL_LORA],
        "classic.speed_ratio": f"{NAMES[CLASSIC]}, plus our reward pass",
        "classic.memory_ratio": NAMES[CLASSIC],
        "time_to_reward_ratio": f"{NAMES[TRL]}, at the best of its learning rates",
    }
    return {
        "speed_ratio": {
            "one_sample": measured.speed(TRL, OURS),
            "four_samples": measured.speed(TRL, OURS_4),
        },
        "memory_ratio": ratio(memory[OURS], memory[TRL]),
        "lora_value": {
            "speed_ratio": measured.speed(TRL_LORA, OURS),
            "memory_ratio": ratio(memory[OURS], memory[TRL_LORA]),
        },
        "classic": {
            "speed_ratio": measured.speed(CLASSIC, OURS, scored=True),
            "memory_ratio": ratio(memory[OURS], memory[CLASSIC]),
            "reward_pass_seconds": scored,
        },
        **({"time_to_reward_ratio": reached["ratio"], "time_to_reward": reached} if reached else {}),
        "peers": peers,
        "seconds": {NAMES[name]: value for name, value in seconds.items()},
        "cpu_seconds": {NAMES[name]: measured.median(name, "cpu_seconds") for name in NAMES},
        "peak_rss_mb": {NAMES[name]: value for name, value in memory.items()},
        "phases": {NAMES[name]: measured.phases(name) for name in NAMES},
        "workload": measured.workload,
        "runs": measured.runs,
    }


def show(measured: Measured) -> None:
    """One table on stdout, and the time to reward below it."""
    found, work = document(measured), measured.workload
    title = f"{work['episodes']} answers of {work['new_tokens']} tokens, {work['epochs']} epochs, medians"
    table = Table(title=title, box=SIMPLE)
    for column in ("", "s an update", "generate", "score", "train", "peak MiB", "speed", "memory"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    memory = found["peak_rss_mb"][NAMES[OURS]]
    for name in dict.fromkeys(run["contestant"] for run in measured.runs if run["part"] == "timing"):
        seconds, rss, phases = measured.median(name), measured.median(name, "peak_rss_mb"), measured.phases(name)
        ours = OURS_4 if name == OURS_4 else OURS
        speed = measured.speed(TRL if name in {OURS, OURS_4} else name, ours)
        cells = [seconds, *(phases.get(phase) for phase in ("generate", "score", "train"))]
        table.add_row(
            NAMES[name],
            *(text(cell, ".1f") for cell in cells),
            text(rss, ".0f"),
            text(speed, ".2f"),
            text(ratio(memory, rss), ".2f"),
        )
    console = Console(width=None if sys.stdout.isatty() else 110)  # a file shall have every row on one line
    console.print(table)
    console.print(
        f"speed: {NAMES[OURS]}'s gain over the peer; in our rows, over {NAMES[TRL]}. memory: ours by the peer's. "
        f"classic with our reward pass: {text(found['classic']['speed_ratio'], '.2f')}."
    )
    if "time_to_reward" in found:
        console.print(f"time to reward: {json.dumps(found['time_to_reward'])}")


def text(value: float | None, form: str) -> str:
    """A number, or a dash if it was not measured."""
    return "-" if value is None else format(value, form)
