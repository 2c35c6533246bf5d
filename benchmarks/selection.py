#!/usr/bin/env python3
# ruff: noqa: E402
"""What choosing the next comparison saves: labels until a reward model is as accurate as with comparisons drawn at random.

    python benchmarks/selection.py --json selection.json

Real rankings are replayed. Every answer is read once by the untouched base; a reward model is an ensemble of linear probes on
its states, each fitted to a bootstrap sample of what has been labelled. It begins with a few comparisons drawn at random and
is given more in batches, either drawn at random or by `preferences.selection` with a random arm. All strategies of a seed
begin with the same comparisons; accuracy is that of the members' mean score on held-out prompts.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import numpy as np
import torch
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn
from tqdm import tqdm

from benchmarks.reward_datasets import DATA, FILES, chosen, split
from preferences.cli import guarded
from preferences.exchange.checks import check_ranked_set
from preferences.exchange.importing import import_rankings
from preferences.exchange.reading import read_jsonl
from preferences.intervals import Array
from preferences.selection import ACQUISITIONS, arms, random_arm, selected_arm
from preferences.store import Store
from trainer.elements import distinct
from trainer.embedded import EMBEDDED
from trainer.models import load_base
from trainer.probe import fit_head
from trainer.ranked import Ranked, load_ranked
from trainer.reward_metrics import accuracy
from trainer.reward_trainer import pair_tensors
from trainer.roles import BASE, Roles
from trainer.scoring import pooled_states

STRATEGIES = ("random", *ACQUISITIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Labels saved by selection on replayed human rankings."""

    json: Path | None = None
    """Write everything measured to this file."""
    data: Path = DATA / "rankings"
    """The folder of the files."""
    datasets: tuple[str, ...] = ("ukp",)
    """Which of them."""
    cache: Path = Path(tempfile.gettempdir()) / "rankloop-selection"
    """Where the states of the answers are kept between runs."""
    model: str = EMBEDDED
    """The base whose states the probes see."""
    sets: int = 1000
    """Comparisons of a dataset at most."""
    heldout: float = 0.3
    """Share of the prompts to judge by."""
    first: int = 16
    """Comparisons that all begin with."""
    batch: int = 16
    """Comparisons that are labelled between two choices."""
    most: int = 208
    """Comparisons that are labelled at last."""
    members: int = 4
    """Probes of an ensemble."""
    random: float = 0.3
    """Share of the random arm."""
    seeds: int = 8
    """Replays."""
    l2: float = 0.1
    """Ridge penalty of the probes, as in `trainer reward`."""


@dataclass(frozen=True, slots=True)
class Data:
    """`states` [answers, hidden]; the comparisons to learn from and to be judged by, and the rows of their answers."""

    states: torch.Tensor
    train: list[Ranked]
    rows: list[list[int]]
    held: list[Ranked]
    held_rows: list[list[int]]


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """Each dataset: curves of all strategies and seeds, and the labels that each strategy needs."""
    found: dict[str, Any] = {"options": {**vars_of(config)}, "datasets": {}}
    for name in config.datasets:
        data = data_of(config, name)
        most = min(config.most, len(data.train))
        sizes = list(range(config.first, most + 1, config.batch))
        curves = {
            strategy: np.array(
                [
                    replay(config, data, strategy, seed, sizes)
                    for seed in tqdm(range(config.seeds), desc=f"{name} {strategy}")
                ]
            )
            for strategy in STRATEGIES
        }
        found["datasets"][name] = {
            "training comparisons": len(data.train), "held-out comparisons": len(data.held), "labels": sizes,
            "accuracy": {strategy: curve.mean(0).tolist() for strategy, curve in curves.items()},
            "saved": {strategy: saved(curves["random"], curves[strategy], sizes) for strategy in ACQUISITIONS},
        }  # fmt: skip
        if config.json:
            config.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def vars_of(config: Benchmark) -> dict[str, Any]:
    """The options as JSON."""
    return {name: str(getattr(config, name)) for name in config.__slots__}


def data_of(config: Benchmark, name: str) -> Data:
    """The comparisons of a dataset, and what the base makes of their answers, computed once."""
    records = split(chosen(read_jsonl(config.data / FILES[name], check_ranked_set), config.sets), config.heldout)
    base = load_base(config.model, "none")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        store = Store(Path(folder) / "rankloop.db")
        study = store.studies.create("main")
        import_rankings(store, study, file)
        train, held = (
            [r for r in load_ranked(store, study, base, side, False) if r.pairs and r.longest <= 768]
            for side in ("train", "heldout")
        )
        store.close()
    examples, rows = distinct([*train, *held])
    key = hashlib.sha256(repr([config.model, [(e.prompt, e.response) for e in examples]]).encode()).hexdigest()[:16]
    file = config.cache / f"{name}-{key}.pt"
    if not file.is_file():
        config.cache.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(examples), desc=f"{name} states") as bar:
            torch.save(pooled_states(Roles(base), BASE, examples, "mean", 4096, bar.update), file)
    return Data(torch.load(file, weights_only=True), train, rows[: len(train)], held, rows[len(train) :])


def replay(config: Benchmark, data: Data, strategy: str, seed: int, sizes: Sequence[int]) -> list[float]:
    """Accuracy with each number of labels."""
    rng = np.random.default_rng(seed)
    labelled = rng.permutation(len(data.train))[: sizes[0]].tolist()
    draws = np.random.default_rng([seed, 1])
    scores = ensemble(config, data, labelled, seed)
    found = [judged(data, scores)]
    for _ in sizes[1:]:
        labelled += choose(config, data, strategy, labelled, scores, draws)
        scores = ensemble(config, data, labelled, seed)
        found.append(judged(data, scores))
    return found


def judged(data: Data, scores: Array) -> float:
    """Held-out accuracy of the members' mean."""
    mean = scores.mean(0)
    return accuracy(data.held, [[float(mean[i]) for i in row] for row in data.held_rows]).value


def choose(
    config: Benchmark, data: Data, strategy: str, labelled: Sequence[int], scores: Array, rng: np.random.Generator
) -> list[int]:
    """The next comparisons to label; `scores` [members, answers]."""
    known = set(labelled)
    left = [i for i in range(len(data.train)) if i not in known]
    count = config.batch if strategy == "random" else arms(config.batch, config.random, rng)
    drawn = [left[picked.index] for picked in random_arm(len(left), count, rng)]
    if strategy == "random":
        return drawn
    rest = [i for i in left if i not in set(drawn)]
    value = ACQUISITIONS[strategy]  # type: ignore[index]
    values = [value(scores[:, data.rows[i]]) for i in rest]
    return [*drawn, *(picked.index for picked in selected_arm(values, rest, config.batch - len(drawn)))]


def ensemble(config: Benchmark, data: Data, labelled: Sequence[int], seed: int) -> Array:
    """[members, answers] scores of probes, each fitted to a bootstrap sample of the labelled comparisons."""
    found = []
    for member in range(config.members):
        drawn = np.random.default_rng([seed, 2, member, len(labelled)]).choice(labelled, len(labelled)).tolist()
        rows = sorted({row for i in drawn for row in data.rows[i]})
        place = {row: at for at, row in enumerate(rows)}
        pairs = pair_tensors(
            [data.train[i] for i in drawn], [[place[row] for row in data.rows[i]] for i in drawn], data.states.device
        )
        head = nn.Linear(data.states.shape[1], 1)
        fit_head(head, data.states[rows], pairs, config.l2)
        with torch.no_grad():
            scores = head(data.states).squeeze(-1)
        found.append((scores / scores[rows].std()).numpy())
    return np.array(found)


def saved(random: Array, other: Array, sizes: Sequence[int]) -> dict[str, Any]:
    """Labels that a strategy needs for the accuracy that random ones reach with all of them, as a share of these.

    Curves [seeds, sizes]; the interval is over seeds. `gain`: mean difference in accuracy over all sizes but the first.
    """
    rng = np.random.default_rng(0)
    draws = [np.arange(len(random)), *(rng.integers(0, len(random), len(random)) for _ in range(1000))]
    shares, gains = [], []
    for draw in draws:
        ours, theirs = smooth(other[draw].mean(0)), smooth(random[draw].mean(0))
        shares.append(labels_for(ours, theirs[-1], sizes) / labels_for(theirs, theirs[-1], sizes))
        gains.append(float((other[draw] - random[draw])[:, 1:].mean()))
    return {"share": summary(shares), "gain": summary(gains)}


def smooth(curve: Array) -> Array:
    """Never falling: the most that was reached with so many labels, which is what one would keep."""
    return np.asarray(np.maximum.accumulate(curve))


def labels_for(curve: Array, level: float, sizes: Sequence[int]) -> float:
    """How many labels reach the level, between two sizes in proportion; 25% more than all if they do not."""
    if curve[-1] < level:
        return 1.25 * sizes[-1]
    return float(np.interp(level, curve, sizes)) if level > curve[0] else float(sizes[0])


def summary(values: Sequence[float]) -> dict[str, float]:
    """The first value, with the interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": values[0], "low": float(low), "high": float(high)}


def show(found: dict[str, Any]) -> None:
    """A table: a row a dataset and strategy."""
    table = Table(
        "", "strategy", "accuracy", "random", "gain over all sizes", "labels to random's last accuracy", box=SIMPLE
    )
    for name, one in found["datasets"].items():
        for strategy, values in one["saved"].items():
            ends = [f"{one['accuracy'][which][-1]:.3f}" for which in (strategy, "random")]
            gain = "{value:+.4f} [{low:+.4f}, {high:+.4f}]".format(**values["gain"])
            share = "{value:.0%} [{low:.0%}, {high:.0%}]".format(**values["share"])
            table.add_row(name, strategy, *ends, gain, share)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
