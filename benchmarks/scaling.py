#!/usr/bin/env python3
# ruff: noqa: E402
"""PPO in one process and in two on this machine, one thread each: tokens a second, predicted against measured.

    python benchmarks/scaling.py --json s.json

Two processes are predicted to take what one takes for half of the episodes, and the sums of gradients between them, which
are timed apart. What is missing to that is what the processes take from each other: memory bandwidth, caches, and waiting
for the longer answers. The first iteration of a run warms up and is not counted.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import torch
import tyro

from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.exchange.importing import import_prompts
from preferences.store import Store
from trainer.embedded import EMBEDDED
from trainer.models import load_base
from trainer.roles import Roles, lora_config
from trainer.world import World, launched

SUMS = 20  # timed, after one that is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Tokens a second of PPO in one and in two processes."""

    json: Path | None = None
    """Write everything measured to this file."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    episodes: int = 16
    """Answers an iteration; a multiple of 2."""
    new_tokens: int = 32
    """Tokens an answer at most."""
    iterations: int = 3
    """Iterations a run, of which all but the first count."""
    alternations: int = 2
    """How often each run is made; medians count."""
    rank: int = 16
    """Rank of the adapters."""

    def __post_init__(self) -> None:
        if self.episodes % 2 or self.iterations < 2 or self.alternations < 1:
            raise RankloopError("episodes must be even, iterations at least 2 and alternations at least 1.")


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of an iteration. `tokens` pass through the model, each as often as it is sampled or trained on."""

    processes: int
    episodes: int
    seconds: float
    generate: float
    score: float
    train: float
    tokens: float

    @property
    def tokens_per_second(self) -> float:
        """Through the model."""
        return self.tokens / self.seconds


def reward(prompts: Sequence[Any], responses: Sequence[str]) -> list[float]:
    """What PPO is after here: the share of the letter e."""
    del prompts
    return [text.count("e") / (len(text) + 1) for text in responses]


def benchmark(config: Benchmark) -> dict[str, Any]:
    """All runs in turn; the document that `--json` writes."""
    with tempfile.TemporaryDirectory(prefix="rankloop-scaling-") as name:
        folder = Path(name)
        store = Store(folder / "scaling.db")
        import_prompts(store, store.studies.default(), REPOSITORY / "data" / "round_prompts.jsonl", heldout=0.0)
        store.close()
        kinds = ((1, config.episodes), (2, config.episodes), (1, config.episodes // 2))
        iterations: dict[tuple[int, int], list[dict[str, float]]] = {kind: [] for kind in kinds}
        for number in range(config.alternations):
            for kind in kinds:
                iterations[kind] += run(config, folder, *kind, number)
        sums = seconds_of_a_sum(config)
    one, two, half = (median(kind, iterations[kind]) for kind in kinds)
    predicted = two.tokens / (half.seconds + sums)
    return {
        "model": config.model,
        "new_tokens": config.new_tokens,
        "cores": os.cpu_count(),
        "tokens_per_second": {"1": one.tokens_per_second, "2": two.tokens_per_second},
        "predicted": {"1": one.tokens_per_second, "2": predicted},
        "speedup": {"measured": two.tokens_per_second / one.tokens_per_second,
                    "predicted": predicted / one.tokens_per_second},
        "seconds_of_a_sum": sums,
        "runs": [asdict(measured) for measured in (one, two, half)],
        "iterations": {f"{kind[0]}x{kind[1]}": found for kind, found in iterations.items()},
    }  # fmt: skip


def run(config: Benchmark, folder: Path, processes: int, episodes: int, number: int) -> list[dict[str, float]]:
    """One PPO run; its counted iterations."""
    out = folder / f"{processes}-{episodes}-{number}"
    print(f"== {processes} process(es), {episodes} episodes", file=sys.stderr, flush=True)
    words = [
        "trainer", "ppo", "--db", folder / "scaling.db", "--model", config.model, "--quantize", "none", "--out", out,
        "--functions", f"{Path(__file__).resolve()}:reward", "--episodes", episodes, "--iterations", config.iterations,
        "--minibatches", 1,
        "--max-new-tokens", config.new_tokens, "--show-every", config.iterations + 1, "--save-every", config.iterations,
        "--snapshots", 0, "--rank", config.rank, "--no-sample-next",
    ]  # fmt: skip
    torchrun(processes, ["-m", *map(str, words)])
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][1:]


def torchrun(processes: int, words: list[str]) -> str:
    """A program in so many processes, a thread each; what it printed. Raises RankloopError."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RankloopError(f"A run failed; the end of what it said: {done.stderr[-2000:]}.")
    return done.stdout


def median(kind: tuple[int, int], iterations: list[dict[str, float]]) -> Measured:
    """Of the iterations of all runs of a kind."""

    def of(name: str) -> float:
        return statistics.median(line[f"seconds/{name}"] for line in iterations)

    tokens = statistics.median(line["seconds/tokens_per_second"] * line["seconds/total"] for line in iterations)
    return Measured(*kind, of("total"), of("generate"), of("score"), of("train"), tokens)


def seconds_of_a_sum(config: Benchmark) -> float:
    """One sum of the gradients of policy and value between two processes, doing nothing else."""
    print("== sums of gradients", file=sys.stderr, flush=True)
    base = load_base(config.model, "none", torch.device("cpu"))
    roles = Roles(base)
    roles.add("policy", lora_config(base, config.rank, 2 * config.rank))
    count = 2 * sum(parameter.numel() for parameter in roles.parameters("policy"))
    said = torchrun(2, [str(Path(__file__).resolve()), str(count)])
    return float(next(line for line in said.splitlines() if line.startswith("seconds ")).split()[1])


def time_sums(count: int) -> None:
    """In one of several processes: the median seconds of a sum of so many numbers."""
    world, seconds = World.here(), []
    gradient = torch.nn.Parameter(torch.zeros(count))
    for _ in range(SUMS + 1):
        gradient.grad = torch.ones(count)
        start = time.perf_counter()
        world.add_gradients([gradient])
        seconds.append(time.perf_counter() - start)
    if world.main:
        print(f"seconds {statistics.median(seconds[1:])}")


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{'processes':>9} {'measured tokens/s':>18} {'predicted':>10}")
    for processes in ("1", "2"):
        measured, predicted = result["tokens_per_second"][processes], result["predicted"][processes]
        print(f"{processes:>9} {measured:>18.1f} {predicted:>10.1f}")
    speedup = result["speedup"]
    print(
        f"two processes are {speedup['measured']:.2f} times as fast as one ({speedup['predicted']:.2f} predicted); a sum of "
        f"gradients takes {1000 * result['seconds_of_a_sum']:.0f} ms"
    )


def main() -> None:
    """Measure and report; in a process that torchrun began, time sums."""
    if launched() > 1:
        time_sums(int(sys.argv[1]))
        return
    config = tyro.cli(Benchmark, config=(tyro.conf.FlagCreatePairsOff,))
    result = benchmark(config)
    show(result)
    if config.json:
        config.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    guarded(main)
