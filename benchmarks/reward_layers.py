#!/usr/bin/env python3
# ruff: noqa: E402
"""Which layer of the untouched base knows most of people's preferences, under which pooling: a linear probe on each.

    python benchmarks/reward_layers.py --json layers.json
    python benchmarks/reward_layers.py --json layers.json --markdown

On the training prompts of benchmarks/reward_datasets.py alone, so that its held-out prompts say nothing of the choice: each
fold of the prompts is judged by a probe fitted to the others. The states of a layer are those behind the last norm, as
`trainer reward --layer` reads them. With the same --json, a stopped call goes on at the dataset where it stopped.
"""

import random
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
from torch import Tensor
from tqdm import tqdm

from benchmarks.parts import begun, keep, markdown, print_table, read
from benchmarks.reward_datasets import FILES, FROZEN, check_datasets, decided, stored
from benchmarks.reward_vs_trl import DATA
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.intervals import Interval
from trainer.batches import Batch, Example, shared_batches
from trainer.elements import distinct
from trainer.embedded import EMBEDDED
from trainer.exits import Layers, checked_layers, find_stack, mixed, stack_of, states_of
from trainer.learning_curve import probe_scores
from trainer.models import Base, load_base
from trainer.ranked import Ranked
from trainer.reward_metrics import hit, pairs_of, shares_by_prompt
from trainer.roles import BASE, Roles
from trainer.scoring import Pooling, pooled
from trainer.sharing import decoder_states

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Linear probes on every layer."""

    json: Path | None = None
    """Write everything measured to this file, anew after each dataset; go on with what is there."""
    markdown: bool = False
    """Print what the file holds as Markdown, and measure nothing."""
    data: Path = DATA / "rankings"
    """The folder of the files."""
    datasets: tuple[str, ...] = tuple(FILES)
    """Which of them."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    sets: int = FROZEN.sets
    """Sets of a dataset at most, spread over its prompts."""
    heldout: float = FROZEN.heldout
    """Share of the prompts that is left aside."""
    max_length: int = FROZEN.max_length
    """Sets with a longer prompt and answer are left out."""
    folds: int = 5
    """Parts of the prompts, each judged by the others."""
    l2: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    """Weight decays of the probe."""
    every: int = 3
    """Layers between two that are probed; the last one always is."""
    also: tuple[str, ...] = ()
    """What is probed besides: a layer, or the mean of several, as 16+21."""
    token_budget: int = 4096
    """Tokens a micro-batch."""


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: print_markdown(read(config.json)) if config.markdown else show(measure(config)))


def measure(config: Benchmark) -> dict[str, Any]:
    """{"datasets": {name: {"sets", "last": {layer: {l2: interval of the accuracy}}, "mean": ...}}}; layer 1 is the lowest."""
    check_datasets(config.datasets)
    names = ("model", "sets", "heldout", "max_length", "folds", "l2", "every", "also")
    found = begun(config.json, {name: getattr(config, name) for name in names})
    found.setdefault("datasets", {})
    roles = Roles(load_base(config.model, "none"))
    for name in config.datasets:
        if name in found["datasets"]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            store = stored(config.data / FILES[name], config.sets, config.heldout, Path(folder))
            learned, _ = decided(store, roles.base, config.max_length)
            store.close()
        found["datasets"][name] = {"sets": len(learned), **probed(config, roles, learned)}
        keep(config.json, found)
    return found


def probed(config: Benchmark, roles: Roles, ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Accuracy by pooling, layer, and weight decay."""
    examples, rows = distinct(ranked)
    wanted = probed_layers(config, roles.base)
    states = layer_states(config, roles, examples, wanted)
    prompts = sorted({r.prompt for r in ranked})
    random.Random(2).shuffle(prompts)
    folds = [set(prompts[i :: config.folds]) for i in range(config.folds) if prompts[i :: config.folds]]

    def one(pooling: Pooling, layers: Layers, l2: float) -> dict[str, Any]:
        return crossed(states[pooling, layers], ranked, rows, folds, l2).as_dict()

    return {
        pooling: {
            "+".join(map(str, layers)): {f"{l2:g}": one(pooling, layers, l2) for l2 in config.l2} for layers in wanted
        }
        for pooling in POOLINGS
    }


def probed_layers(config: Benchmark, base: Base) -> list[Layers]:
    """What is probed: every so manieth layer and the last, and what is asked for besides. Raises RankloopError."""
    depth = len(stack_of(base))
    found: set[Layers] = {(layer,) for layer in (*range(config.every, depth + 1, config.every), depth)}
    for row in config.also:
        try:
            found.add(checked_layers([int(number) for number in row.split("+")], base) or (depth,))
        except (ValueError, RankloopError) as error:
            raise RankloopError(
                f"--also takes layers from 1 to {depth}, or several as 1+{depth}; {row!r} is neither."
            ) from error
    return sorted(found)


def crossed(
    states: Tensor, ranked: Sequence[Ranked], rows: Sequence[list[int]], folds: Sequence[set[str]], l2: float
) -> Interval:
    """Share of the pairs ordered rightly, those of each fold's prompts by a probe fitted to all others."""
    hits: list[tuple[str, float]] = []
    for fold in folds:
        inside = [r.prompt in fold for r in ranked]
        own, theirs = (
            [(r, row) for r, row, held in zip(ranked, rows, inside, strict=True) if held == side]
            for side in (False, True)
        )
        held = [r for r, _ in theirs]
        scores = probe_scores(states, [r for r, _ in own], [row for _, row in own], [row for _, row in theirs], l2)
        hits += [(held[pair.comparison].prompt, hit(pair.gap)) for pair in pairs_of(held, scores)]
    return shares_by_prompt(hits)


@torch.no_grad()
def layer_states(
    config: Benchmark, roles: Roles, examples: Sequence[Example], wanted: Sequence[Layers]
) -> dict[tuple[Pooling, Layers], Tensor]:
    """(answers, hidden) pooled states after each of those layers, or of their mean, and the last norm; the last of `wanted`
    is the last layer. Raises RankloopError."""
    parts: dict[tuple[Pooling, Layers], Tensor] = {
        (pooling, layers): torch.zeros(len(examples), roles.hidden_size, device=roles.base.device)
        for pooling in POOLINGS
        for layers in wanted
    }
    every = sorted({layer for layers in wanted for layer in layers})
    bar = tqdm(total=len(examples), unit="answer", desc="states")
    with bar, roles.routed(BASE), watching(roles, every) as said:
        for rows in shared_batches(examples, config.token_budget, roles.together):
            batch = roles.collate([examples[i] for i in rows])
            last = roles.response_states(batch)
            before = dict(said)
            for layers in wanted:
                states = mixed([before[layer] for layer in layers])
                of_answers = normed(roles, batch, states)[batch.rows[:, None], batch.positions]
                for pooling in POOLINGS:
                    parts[pooling, layers][rows] = pooled(of_answers, batch.lengths, pooling)
            if not torch.allclose(of_answers, last, rtol=1e-3, atol=1e-3):
                raise RankloopError(f"The layers of {config.model} cannot be read apart; give a Llama-like model.")
            bar.update(len(rows))
    return parts


def normed(roles: Roles, batch: Batch, states: Tensor) -> Tensor:
    """(rows, W, hidden): what the last norm makes of a layer's states, as in a model without layers."""
    stack = roles.stack()
    parent, name = find_stack(roles.base.model, stack)
    setattr(parent, name, stack[:0])
    try:
        return decoder_states(roles.base.model.base_model, batch, embeddings=states)
    finally:
        setattr(parent, name, stack)


@contextmanager
def watching(roles: Roles, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within, what each of those layers of a decoder-only model gave last: (rows, W, hidden)."""
    said: dict[int, Tensor] = {}

    def watch(number: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            said[number] = states_of(output)

        return hook

    handles = [roles.stack()[layer - 1].register_forward_hook(watch(layer)) for layer in layers]
    try:
        yield said
    finally:
        for handle in handles:
            handle.remove()


def table(found: dict[str, Any], l2: str) -> tuple[list[str], list[list[str]]]:
    """A row a layer, a column a dataset and pooling, and the means over the datasets."""
    datasets = found["datasets"]
    columns = [(name, pooling) for pooling in POOLINGS for name in datasets]
    rows = []
    for layer in datasets[columns[0][0]][columns[0][1]]:
        values = {column: datasets[column[0]][column[1]][layer][l2]["value"] for column in columns}
        means = [sum(values[name, pooling] for name in datasets) / len(datasets) for pooling in POOLINGS]
        rows.append([layer, *(f"{v:.3f}" for v in values.values()), *(f"{v:.3f}" for v in means)])
    header = ["layer", *(f"{name}, {pooling}" for name, pooling in columns), *(f"mean of all, {p}" for p in POOLINGS)]
    return header, rows


def print_markdown(found: dict[str, Any]) -> None:
    """The tables as Markdown, one a weight decay."""
    for l2 in found["settings"]["l2"]:
        print(f"\nl2 {l2:g}:\n\n{markdown(*table(found, f'{l2:g}'))}")


def show(found: dict[str, Any]) -> None:
    """The tables, one a weight decay."""
    for l2 in found["settings"]["l2"]:
        print_table(*table(found, f"{l2:g}"), title=f"l2 {l2:g}")


if __name__ == "__main__":
    main()
