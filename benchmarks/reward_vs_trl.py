#!/usr/bin/env python3
# ruff: noqa: E402
"""Reward training against TRL's RewardTrainer on the same rankings, model, epochs and LoRA: pairs a second, peak memory, and
accuracy on held-out prompts over several seeds.

    python benchmarks/reward_vs_trl.py --json w.json
    python benchmarks/reward_vs_trl.py --json w.json --markdown

TRL gets all decided pairs of the rankings, ours the rankings; the token ids are the same. Both run alternately, each in a
process of its own. TRL keeps its defaults (learning rate, gradient checkpointing) unless --trl-options says otherwise.
With the same --json, a stopped call goes on at the run where it stopped.
"""

import json
import math
import os
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import tyro

from benchmarks.parts import begun, keep, markdown, read
from benchmarks.ppo_vs_trl import run_process
from preferences.cli import guarded
from preferences.errors import RankloopError
from trainer.embedded import EMBEDDED, cache_folder, embedded_model
from trainer.models import load_base
from trainer.ranked import Ranked
from trainer.ranked_files import ranked_file
from trainer.reward_metrics import accuracy, lengths

OURS, TRL = "ours", "trl"
SCRIPTS = {OURS: "reward_ours", TRL: "reward_trl"}
DATA = Path(os.environ.get("RANKLOOP_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Reward training here against TRL's."""

    json: Path | None = None
    """Write everything measured to this file, anew after each run; go on with what is there."""
    markdown: bool = False
    """Print what the file holds as Markdown, and measure nothing."""
    file: Path = DATA / "rankings" / "finegrained_qa_k4.jsonl"
    """Rankings in the record format."""
    k: int = 4
    """Only sets of so many answers."""
    sets: int = 96
    """Sets to learn from."""
    heldout: int = 96
    """Sets of other prompts to judge by."""
    max_length: int = 512
    """Sets with a longer prompt and answer are left out."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    seeds: int = 3
    """Runs of each side, from seed 0 on."""
    epochs: int = 1
    """Passes over the rankings."""
    batch: int = 8
    """Comparisons an update; for TRL, as many pairs as these have on average."""
    micro_batch: int = 8
    """TRL's pairs a micro-batch."""
    rank: int = 16
    """Rank of the LoRA adapters, on all linear layers."""
    our_options: str = '{"checkpointing": true}'
    """Options of ours beside these, as JSON; gradient checkpointing is TRL's default."""
    trl_options: str = "{}"
    """Options of TRL's RewardConfig beside these, as JSON."""


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: print_markdown(read(config.json)) if config.markdown else show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """All runs, in alternation; the document so far is written after each."""
    apart = ("json", "markdown", "seeds", "file")
    settings = {name: value for name, value in asdict(config).items() if name not in apart}
    found = begun(config.json, {**settings, "file": config.file.name})
    model = str(embedded_model(cache_folder())) if config.model == EMBEDDED else config.model
    base = load_base(model, "none")
    train, held = divided(config, ranked_file(config.file, base, simulated=False))
    mean_pairs = statistics.mean(len(r.pairs) for r in train)
    common = {
        "model": model, "pad": base.pad_id, "train": plain(train), "held": plain(held), "epochs": config.epochs,
        "batch": config.batch, "rank": config.rank, "micro_batch": config.micro_batch,
        "pairs_an_update": round(config.batch * mean_pairs),
    }  # fmt: skip
    del base
    options = {OURS: json.loads(config.our_options), TRL: json.loads(config.trl_options)}
    runs = found.get("runs", [])
    for seed in range(config.seeds):
        for side in (OURS, TRL):
            if any((run["side"], run["seed"]) == (side, seed) for run in runs):
                continue
            before = os.getloadavg()
            settings = common | {"seed": seed, "options": options[side]}
            said = run_process(Path(sys.executable), SCRIPTS[side], settings)
            value = accuracy(held, said.pop("scores")).value
            run = {"side": side, "seed": seed, "accuracy": value, "load_average": [before, os.getloadavg()], **said}
            runs.append(run)
            print(
                f"{side}, seed {seed}: {run['pairs'] / run['seconds']:.1f} pairs/s, {run['peak_rss_mb']:.0f} MiB, "
                f"accuracy {value:.3f}",
                file=sys.stderr,
            )
            found |= document(config, train, held, runs)
            keep(config.json, found)
    return found


def divided(config: Benchmark, ranked: Sequence[Ranked]) -> tuple[list[Ranked], list[Ranked]]:
    """Sets to learn from and to judge by, of different prompts. Raises RankloopError if there are too few."""
    fit = [r for r in ranked if r.pairs and len(r.examples) == config.k and r.longest <= config.max_length]
    prompts = sorted({r.prompt for r in fit})
    random.Random(0).shuffle(prompts)
    side = {
        prompt: at * (config.sets + config.heldout) < config.sets * len(prompts) for at, prompt in enumerate(prompts)
    }
    train = [r for r in fit if side[r.prompt]][: config.sets]
    held = [r for r in fit if not side[r.prompt]][: config.heldout]
    if len(train) < config.sets or not held:
        raise RankloopError(
            f"{config.file} has {len(fit)} decided sets of {config.k} answers within {config.max_length} tokens; give fewer "
            "--sets, or another --file."
        )
    return train, held


def plain(ranked: Sequence[Ranked]) -> list[dict[str, Any]]:
    """As token ids and pairs."""
    return [
        {
            "id": r.prompt, "prompt": r.examples[0].prompt, "responses": [example.response for example in r.examples],
            "pairs": [[b, w] for b, w, _ in r.pairs],
        }
        for r in ranked
    ]  # fmt: skip


def document(
    config: Benchmark, train: Sequence[Ranked], held: Sequence[Ranked], runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """{"speed_ratio", "memory_ratio", "accuracy", "accuracy_standard_error", "longer_wins", "workload", "runs"}."""
    sides = {side: [run for run in runs if run["side"] == side] for side in (OURS, TRL)}
    found: dict[str, Any] = {
        "accuracy": {side: statistics.mean(r["accuracy"] for r in own) for side, own in sides.items() if own},
        "accuracy_standard_error": {side: standard_error([r["accuracy"] for r in own]) for side, own in sides.items()},
        "longer_wins": accuracy(held, lengths(held)).value,
    }
    if all(sides.values()):
        speed = {side: statistics.median(r["pairs"] / r["seconds"] for r in own) for side, own in sides.items()}
        memory = {side: statistics.median(r["peak_rss_mb"] for r in own) for side, own in sides.items()}
        found |= {
            "speed_ratio": speed[OURS] / speed[TRL], "memory_ratio": memory[OURS] / memory[TRL],
            "pairs_a_second": speed, "peak_rss_mb": memory,
        }  # fmt: skip
    workload = {
        "file": config.file.name, "training_sets": len(train), "heldout_sets": len(held), "k": config.k,
        "training_pairs": sum(len(r.pairs) for r in train), "epochs": config.epochs, "batch": config.batch,
        "micro_batch": config.micro_batch, "rank": config.rank, "cores": os.cpu_count(),
    }  # fmt: skip
    return {**found, "workload": workload, "runs": list(runs)}


def standard_error(values: Sequence[float]) -> float | None:
    """Of their mean; None of fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def print_markdown(found: dict[str, Any]) -> None:
    """A row a measure."""
    errors = found["accuracy_standard_error"]
    cells = [
        ["pairs a second", *(f"{found['pairs_a_second'][side]:.2f}" for side in (OURS, TRL)), f"{found['speed_ratio']:.2f}"],
        ["peak memory, MiB", *(f"{found['peak_rss_mb'][side]:.0f}" for side in (OURS, TRL)), f"{found['memory_ratio']:.2f}"],
        ["accuracy", *(f"{found['accuracy'][side]:.3f} (s.e. {errors[side] or 0:.3f})" for side in (OURS, TRL)), ""],
    ]  # fmt: skip
    print(f"workload {json.dumps(found['workload'])}; longer wins {found['longer_wins']:.3f}:\n")
    print(markdown(["", "ours", "TRL", "ours / TRL"], cells))


def show(found: dict[str, Any]) -> None:
    """The ratios and accuracies in lines."""
    for name in ("speed_ratio", "memory_ratio", "accuracy", "accuracy_standard_error", "longer_wins"):
        print(f"{name}: {json.dumps(found.get(name))}")


if __name__ == "__main__":
    main()
