#!/usr/bin/env python3
# ruff: noqa: E402
"""Which layer of the untouched base knows most of people's preferences, and under which pooling: a linear probe on each.

    python benchmarks/reward_layers.py --json layers.json

The datasets and their frozen splits of prompts are those of benchmarks/reward_datasets.py.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import torch
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from benchmarks.reward_datasets import FILES, decided, stored
from benchmarks.reward_vs_trl import DATA
from preferences.cli import guarded
from preferences.errors import RankloopError
from trainer.batches import Example, shared_batches
from trainer.elements import distinct
from trainer.embedded import EMBEDDED
from trainer.learning_curve import probe_accuracy
from trainer.models import load_base
from trainer.ranked import Ranked
from trainer.roles import BASE, Roles
from trainer.scoring import Pooling, pooled

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Linear probes on every layer."""

    json: Path | None = None
    """Write everything measured to this file, anew after each dataset."""
    data: Path = DATA / "rankings"
    """The folder of the files."""
    datasets: tuple[str, ...] = tuple(FILES)
    """Which of them."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    sets: int = 400
    """Sets of a dataset at most, spread over its prompts."""
    heldout: float = 0.25
    """Share of the prompts to judge by."""
    max_length: int = 768
    """Sets with a longer prompt and answer are left out."""
    l2: float = 1.0
    """Weight decay of the probe."""
    every: int = 3
    """Layers between two that are probed; the last one always is."""
    token_budget: int = 4096
    """Tokens a micro-batch."""


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """{"datasets": {name: {"last": {layer: accuracy}, "mean": ...}}}; layer 1 is the lowest."""
    unknown = [name for name in config.datasets if name not in FILES]
    if unknown:
        raise RankloopError(f"There is no dataset {unknown[0]!r}; give some of {', '.join(FILES)}.")
    roles = Roles(load_base(config.model, "none"))
    found: dict[str, Any] = {"model": config.model, "sets": config.sets, "l2": config.l2, "datasets": {}}
    for name in config.datasets:
        with tempfile.TemporaryDirectory() as folder:
            store = stored(config.data / FILES[name], config.sets, config.heldout, Path(folder))
            learned, held = decided(store, roles.base, config.max_length)
            store.close()
        found["datasets"][name] = probed(config, roles, learned, held)
        if config.json:
            config.json.write_text(json.dumps(found, indent=1) + "\n")
    return found


def probed(config: Benchmark, roles: Roles, learned: Sequence[Ranked], held: Sequence[Ranked]) -> dict[str, Any]:
    """Held-out accuracy by pooling and layer."""
    examples, rows = distinct([*learned, *held])
    depth = len(roles.stack())
    layers = sorted({*range(config.every, depth + 1, config.every), depth})
    states = layer_states(config, roles, examples, layers)
    own, theirs = rows[: len(learned)], rows[len(learned) :]
    return {
        pooling: {
            layer: probe_accuracy(states[pooling, layer], learned, own, held, theirs, config.l2) for layer in layers
        }
        for pooling in POOLINGS
    }


@torch.no_grad()
def layer_states(
    config: Benchmark, roles: Roles, examples: Sequence[Example], layers: Sequence[int]
) -> dict[tuple[Pooling, int], Tensor]:
    """(answers, hidden) pooled states after each of those layers."""
    parts: dict[tuple[Pooling, int], Tensor] = {
        (pooling, layer): torch.zeros(len(examples), roles.hidden_size, device=roles.base.device)
        for pooling in POOLINGS
        for layer in layers
    }
    bar = tqdm(total=len(examples), unit="answer", desc="states")
    with bar, roles.routed(BASE), watching(roles, layers) as said:
        for rows in shared_batches(examples, config.token_budget, roles.together):
            batch = roles.collate([examples[i] for i in rows])
            roles.response_states(batch)
            for layer in layers:
                of_answers = said[layer][batch.rows[:, None], batch.positions]
                for pooling in POOLINGS:
                    parts[pooling, layer][rows] = pooled(of_answers, batch.lengths, pooling)
            bar.update(len(rows))
    return parts


@contextmanager
def watching(roles: Roles, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within, what each of those layers of a decoder-only model gave last: (rows, W, hidden)."""
    said: dict[int, Tensor] = {}

    def watch(number: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            said[number] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [roles.stack()[layer - 1].register_forward_hook(watch(layer)) for layer in layers]
    try:
        yield said
    finally:
        for handle in handles:
            handle.remove()


def show(found: dict[str, Any]) -> None:
    """A table: a row a layer, a column a dataset and pooling."""
    columns = [(name, pooling) for name in found["datasets"] for pooling in POOLINGS]
    table = Table("layer", *(f"{name}, {pooling}" for name, pooling in columns), "mean of all", box=SIMPLE)
    for layer in found["datasets"][columns[0][0]][columns[0][1]]:
        values = [found["datasets"][name][pooling][layer] for name, pooling in columns]
        table.add_row(str(layer), *(f"{v:.3f}" for v in values), f"{sum(values) / len(values):.3f}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
