#!/usr/bin/env python3
# ruff: noqa: E402
"""Gold score against the square root of the KL, for PPO on one reward model and on a pessimistic ensemble, both learned from
noisy rankings by the gold scorer (Gao et al. 2023, arXiv 2210.10760; Coste et al. 2024, arXiv 2310.02743).

    python benchmarks/gold_reward.py --json gold.json
    python benchmarks/gold_reward.py --json gold.json --markdown

A tiny random model, whose answers are words without sense; the gold scorer is `gold` below. The same rankings, prompts, seed
and options for both; PPO logs the gold score as a reward function of weight 0. With the same --json, a
stopped call goes on at the seed where it stopped.
"""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import numpy as np
import tyro
from matplotlib.figure import Figure

from benchmarks.parts import begun, keep, markdown, read
from preferences.cli import guarded
from preferences.records import Message, Study
from preferences.run_files import METRICS
from preferences.store import Store
from trainer.models import load_base
from trainer.ppo import Ppo, ppo
from trainer.report_plots import OURS, WARM, plain, png
from trainer.reward import Reward, reward
from trainer.sample import SampleStage, sample

PROMPTS = REPOSITORY / "data" / "round_prompts.jsonl"
K = 4
SMOOTH = 7  # iterations that a point of the picture is the mean of


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """PPO against a known scorer."""

    json: Path | None = None
    """Write everything measured to this file, anew after each seed; go on with what is there."""
    markdown: bool = False
    """Print what the file holds as Markdown, and measure nothing."""
    png: Path | None = None
    """Draw gold against the square root of the KL to this file."""
    prompts: int = 256
    """Prompts whose answers are ranked."""
    noise: float = 0.1
    """Scale of the Gumbel noise on each answer's gold score when it is ranked."""
    members: int = 4
    """Of the ensemble."""
    pessimism: float = 1.0
    """Times the members' spread that is taken off their mean."""
    iterations: int = 120
    """Of PPO."""
    beta: float = 0.0
    """Weight of the KL penalty; 0 lets the policy go as far as it likes."""
    lr: float = 3e-3
    """PPO's learning rate."""
    seeds: int = 3
    """Repetitions."""


def gold(_: list[list[Message]], responses: list[str]) -> list[float]:
    """The known scorer, as a reward function."""
    return [score(text) for text in responses]


def score(text: str) -> float:
    """Half of the characters vowels, and half of them spaces, would be best; too many of one are as bad as too few."""
    if not text:
        return 0.0
    shares = (sum(c in wanted for c in text.lower()) / len(text) for wanted in ("aeiou", " "))
    return sum(4 * share * (1 - share) for share in shares)


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: told(config, read(config.json) if config.markdown else measure(config)))


def told(config: Benchmark, found: dict[str, Any]) -> None:
    """Print, and draw, what was measured."""
    (print_markdown if config.markdown else show)(found)
    if config.png:
        config.png.write_bytes(png(picture(found)))


def measure(config: Benchmark) -> dict[str, Any]:
    """Both rewards at each seed."""
    settings = {
        name: value for name, value in asdict(config).items() if name not in ("json", "markdown", "png", "seeds")
    }
    found = begun(config.json, settings)
    runs = found.setdefault("runs", [])
    for seed in range(config.seeds):
        if all(run["seed"] != seed for run in runs):
            with tempfile.TemporaryDirectory() as folder:
                runs += repetition(config, seed, Path(folder))
            keep(config.json, found)
    return found


def repetition(config: Benchmark, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Rank, learn both rewards, run PPO on each."""
    from tests.tiny import save_tiny_llama

    model = str(save_tiny_llama(folder / "tiny", seed))
    store = Store(folder / "rankloop.db")
    study = store.studies.create("main", k=K, plan={"labels_heldout": 1, "shared": 0.0, "repeats": 0.0})
    messages = [json.loads(line)["messages"] for line in PROMPTS.read_text().splitlines()][: config.prompts]
    store.studies.add_prompts(study, store.prompts.add([{"messages": one} for one in messages], heldout=0.1))
    common: dict[str, Any] = {"db": store.path, "model": model, "quantize": "none", "seed": seed}
    sample(SampleStage(**common, temperature=1.0, max_new_tokens=24), store, load_base(model, "none"))
    rank_all(store, study, config.noise, seed)
    found = []
    for name, members, pessimism in (("single", 1, 0.0), ("pessimistic", config.members, config.pessimism)):
        out = folder / name
        options = {"epochs": 3.0, "lr": 1e-3, "rank": 8, "members": members, "pooling": "mean", "l2": 0.1}
        result = reward(Reward(**common, out=out, **options), store, load_base(model, "none"))
        run = Ppo(
            **common, out=folder / f"ppo-{name}", reward=out / "adapter", pessimism=pessimism, iterations=config.iterations,
            beta=config.beta, lr=config.lr, value_lr=2 * config.lr, epochs=4, minibatches=1, episodes=64,
            max_new_tokens=24, temperature=1.0, rank=8, missing_eos_penalty=0.0, sample_next=False,
            functions=(f"{Path(__file__).resolve()}:gold=0",), show_every=1000, save_every=config.iterations, normalise=False,
        )  # fmt: skip
        ppo(run, store, load_base(model, "none"))
        lines = [json.loads(line) for line in (folder / f"ppo-{name}" / METRICS).read_text().splitlines()]
        points = [point(line) for line in lines]
        found.append({"seed": seed, "reward": name, "heldout_accuracy": result["heldout_accuracy"], "points": points})
    store.close()
    return found


def rank_all(store: Store, study: Study, noise: float, seed: int) -> None:
    """Rank every comparison by the gold score with noise."""
    rng = np.random.default_rng(seed)
    robot = store.annotators.add("gold", "annotator", "")
    for comparison in store.comparisons.all(study.id):
        responses = store.responses.get_many(comparison.items)
        scores = np.array([score(responses[item].text) for item in comparison.items])
        order = np.argsort(-(scores + rng.gumbel(scale=noise, size=len(scores))))
        store.rankings.add_imported(robot, comparison, [[comparison.items[i]] for i in order])


def point(line: dict[str, Any]) -> dict[str, float]:
    """An iteration: how far the policy is, what the proxy says, and what is true."""
    true = next(value for name, value in line.items() if name.startswith("reward/") and name.endswith(":gold"))
    return {"kl": line["objective/kl"], "proxy": line["reward/learned"], "gold": true}


def distance(one: dict[str, float]) -> float:
    """The square root of a point's KL, whose estimate may be a little below 0."""
    return max(0.0, one["kl"]) ** 0.5


def picture(found: dict[str, Any]) -> Figure:
    """Gold against the square root of the KL: a line a run, its rolling mean over a few iterations."""
    figure, axes = plain(6.4, 4.0)
    colours = dict(zip(("single", "pessimistic"), (OURS, WARM), strict=True))
    for run in found["runs"]:
        axis, gold = (
            np.convolve([reading(one) for one in run["points"]], np.ones(SMOOTH) / SMOOTH, "valid")
            for reading in (distance, lambda one: one["gold"])
        )
        label = run["reward"] if run["seed"] == found["runs"][0]["seed"] else None
        axes.plot(axis, gold, color=colours[run["reward"]], linewidth=1.4, alpha=0.8, label=label)
    axes.set_xlabel("square root of the KL from the first policy (nats an answer)")
    axes.set_ylabel("gold score")
    axes.legend(frameon=False)
    return figure


def print_markdown(found: dict[str, Any]) -> None:
    """The mean gold and learned score of the iterations in each unit of sqrt KL, all seeds together: a row a unit."""
    by_unit: dict[int, dict[str, list[dict[str, float]]]] = {}
    for run in found["runs"]:
        for one in run["points"]:
            unit = int(distance(one))
            by_unit.setdefault(unit, {}).setdefault(run["reward"], []).append(one)
    names = list(dict.fromkeys(run["reward"] for run in found["runs"]))
    rows = []
    for unit, of_unit in sorted(by_unit.items()):
        points = [of_unit.get(name, []) for name in names]
        values = [mean_of(one, what) for what in ("gold", "proxy") for one in points]
        rows.append([f"{unit} to {unit + 1}", *values, ", ".join(str(len(one)) for one in points)])
    columns = [f"{what}, {name}" for what in ("gold", "learned") for name in names]
    print(f"options {json.dumps(found['settings'])}, seeds {len({run['seed'] for run in found['runs']})}:\n")
    print(markdown(["sqrt KL", *columns, "iterations"], rows))
    for name in names:
        runs = [run for run in found["runs"] if run["reward"] == name]
        ends = [run["points"][-1]["gold"] for run in runs]
        bests = [max(one["gold"] for one in run["points"]) for run in runs]
        print(f"\n{name}: gold at its best {spread_of(bests)}, at the end {spread_of(ends)}")


def mean_of(points: list[dict[str, float]], what: str) -> str:
    """In figures; empty without points."""
    return f"{np.mean([one[what] for one in points]):.3f}" if points else ""


def spread_of(values: list[float]) -> str:
    """The mean and all values."""
    return f"{np.mean(values):.3f} ({', '.join(f'{v:.3f}' for v in values)})"


def show(found: dict[str, Any]) -> None:
    """Gold at the start, at its best, and at the end, with the square root of the KL there."""
    for run in found["runs"]:
        points = run["points"]
        best = max(points, key=lambda one: one["gold"])
        parts = [
            f"{name} {one['gold']:.3f} (proxy {one['proxy']:+.2f}) at sqrt KL {distance(one):.2f}"
            for name, one in (("start", points[0]), ("best", best), ("end", points[-1]))
        ]
        print(f"{run['reward']}, seed {run['seed']}: {'; '.join(parts)}")


if __name__ == "__main__":
    main()
