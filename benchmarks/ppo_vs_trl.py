#!/usr/bin/env python3
# ruff: noqa: E402
"""PPO against TRL on the same model, prompts, batch, answer length, epochs and LoRA: seconds an update, peak memory, and the
time to a reward.

    python benchmarks/ppo_vs_trl.py --quick --json b.json

Peers: TRL 1.12.0 as documented (whole value and reward models), TRL 1.12.0 with a LoRA value model, TRL 0.11.4 classic
(value head on the trunk, no reward model). Peers and ours run alternately, each in a process of its own; an end token ends
no answer, so that all have the same length. The first update of a run warms up and is not counted. With the same --json, a
stopped call goes on at the run where it stopped.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))  # as a script, only its own folder is on the path

import tyro

from benchmarks.parts import begun, keep
from benchmarks.peer_environments import TRL_0_11, TRL_1_12, python_of
from benchmarks.ppo_results import CLASSIC, NAMES, OURS, OURS_4, SAMPLES, TRL, TRL_LORA, Measured, document, show
from preferences.cli import guarded
from preferences.errors import RankloopError
from trainer.embedded import EMBEDDED, cache_folder

PEERS = Path(__file__).resolve().parent / "peers"
SCRIPTS = {TRL: "trl_1_12", TRL_LORA: "trl_1_12", CLASSIC: "trl_0_11", OURS: "ours", OURS_4: "ours"}
ENVIRONMENTS = {"trl_1_12": ("trl-1.12.0", TRL_1_12), "trl_0_11": ("trl-0.11.4", TRL_0_11)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """PPO here against TRL's: time and memory of an update, and the time to a reward."""

    json: Path | None = None
    """Write everything measured to this file, anew after each run; go on with what is there."""
    quick: bool = False
    """Leave the time to reward out."""
    model: str = EMBEDDED
    """The embedded model, or a folder."""
    contestants: tuple[str, ...] = (TRL, OURS, TRL_LORA, OURS_4, CLASSIC)
    """Who runs, in this order."""
    alternations: int = 3
    """How often each runs; medians count."""
    updates: int = 2
    """Updates a run, of which all but the first count."""
    episodes: int = 32
    """Answers an update."""
    new_tokens: int = 48
    """Tokens an answer."""
    epochs: int = 4
    """Passes over each rollout, in one minibatch."""
    rank: int = 16
    """Rank of every LoRA adapter, on all linear layers."""
    micro_batch: int = 8
    """Answers a micro-batch of the peers; their examples take the whole batch at once, which needs more memory."""
    token_budget: int = 640
    """Tokens a micro-batch of ours, padding and all roles included: as many answers as the peers have."""
    reward_updates: int = 10
    """Updates of the time to reward."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 1e-4)
    """TRL's learning rates in the time to reward, of which the best counts."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        unknown = set(self.contestants) - set(NAMES)
        if unknown or self.updates < 2 or self.alternations < 1 or self.episodes % self.micro_batch:
            raise RankloopError(
                f"contestants must be among {', '.join(NAMES)}, updates at least 2, alternations at least 1, and episodes "
                "a multiple of micro-batch."
            )


def main() -> None:
    """Measure, write, print."""
    config = tyro.cli(Benchmark, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    guarded(lambda: show(measure(config)))


def measure(config: Benchmark) -> Measured:
    """All runs, in alternation; then the time to reward."""
    cache = cache_folder() / "peers"
    cache.mkdir(exist_ok=True)
    needed = {SCRIPTS[name] for name in (*config.contestants, *(() if config.quick else (TRL,)))}
    pythons = {script: python_of(*ENVIRONMENTS[script], cache) for script in needed & set(ENVIRONMENTS)}
    with tempfile.TemporaryDirectory() as folder:
        common = prepare(config, cache, Path(folder), ignore_eos=True)
        found = begun(config.json, workload(config, common), under="workload")
        measured = Measured(found["workload"], found.get("runs", []))
        for alternation in range(config.alternations):
            for contestant in config.contestants:
                settings = common | timing_settings(config, contestant, common)
                run_one(config, measured, pythons, contestant, settings, part="timing", alternation=alternation)
        if not config.quick:
            time_to_reward(config, measured, pythons, prepare(config, cache, Path(folder) / "reward", ignore_eos=False))
    return measured


def prepare(config: Benchmark, cache: Path, folder: Path, *, ignore_eos: bool) -> dict[str, Any]:
    """What all runs have in common: the exported model, prompts as messages and token ids, sizes."""
    lines = (REPOSITORY / "data" / "round_prompts.jsonl").read_text().splitlines()
    messages = [json.loads(line)["messages"] for line in lines]
    common: dict[str, Any] = {
        "episodes": config.episodes, "new_tokens": config.new_tokens, "epochs": config.epochs, "rank": config.rank,
        "micro_batch": config.micro_batch, "seed": config.seed, "beta": 0.05, "temperature": 1.0, "lr": 1e-5,
        "missing_eos_penalty": 0.0, "ignore_eos": ignore_eos, "reward": None, "value": "full",
        "messages": messages[: config.episodes] if ignore_eos else messages,
    }  # fmt: skip
    places = {"model": config.model, "cache": str(cache), "folder": str(folder)}
    made = run_process(Path(sys.executable), "prepare", common | places)
    return common | {"model": made["model"], "prompts": made["prompts"], "reward_model": made["reward"]}


def timing_settings(config: Benchmark, contestant: str, common: dict[str, Any]) -> dict[str, Any]:
    """What differs from contestant to contestant when updates are timed."""
    chosen = range(config.episodes)
    # TRL is told to save nothing, so ours saves once, after the last counted update.
    options: dict[str, Any] = {
        "epochs": config.epochs, "minibatches": 1, "value": "trunk", "token_budget": config.token_budget,
        "save_every": config.updates,
    }  # fmt: skip
    if contestant == OURS_4:
        chosen = alike([len(ids) for ids in common["prompts"]], config.episodes // SAMPLES)
        options["samples"] = SAMPLES
    pick = {what: [common[what][i] for i in chosen] for what in ("messages", "prompts")}
    value = "lora" if contestant == TRL_LORA else "full"
    return {**pick, "updates": config.updates, "value": value, "options": options}


def alike(lengths: Sequence[int], count: int) -> list[int]:
    """`count` indices of rows that are as long as all of them: the longest one, so that padding is the same, then from
    each further group of equal size the one that brings the mean closest to that of all."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    size, mean = len(order) // count, statistics.mean(lengths)
    chosen = [order[0]]
    for k in range(1, count):
        total = sum(lengths[i] for i in chosen)
        group = order[k * size : (k + 1) * size]
        chosen.append(min(group, key=lambda i: abs((total + lengths[i]) / (k + 1) - mean)))
    return chosen


def workload(config: Benchmark, common: dict[str, Any]) -> dict[str, Any]:
    """What is run, in numbers."""
    lengths = [len(ids) for ids in common["prompts"]]
    four = [lengths[i] for i in alike(lengths, config.episodes // SAMPLES)]
    sizes = (
        "episodes", "new_tokens", "epochs", "rank", "micro_batch", "token_budget", "updates", "reward_updates", "seed"
    )  # fmt: skip
    return {
        "model": config.model,
        **{name: getattr(config, name) for name in sizes},
        "counted_updates": list(range(2, config.updates + 1)),
        "prompt_tokens": {"mean": statistics.mean(lengths), "longest": max(lengths)},
        "prompt_tokens_of_four_samples": {"mean": statistics.mean(four), "longest": max(four)},
        "cores": os.cpu_count(),
    }


def run_one(
    config: Benchmark,
    measured: Measured,
    pythons: dict[str, Path],
    contestant: str,
    settings: dict[str, Any],
    **labels: Any,
) -> None:
    """One run in a process of its own; what it said is kept and written. One that was measured before is left as it is."""
    labels = {"contestant": contestant, **labels}
    if any(labels.items() <= run.items() for run in measured.runs):
        return
    script = SCRIPTS[contestant]
    before = os.getloadavg()
    said = run_process(pythons.get(script, Path(sys.executable)), script, settings)
    run = {**labels, "load_average": [before, os.getloadavg()], **said}
    measured.runs.append(run)
    seconds = ", ".join(f"{row['seconds']:.1f}" for row in run["updates"])
    print(
        f"{NAMES[contestant]}: {seconds} s an update, {run['peak_rss_mb']:.0f} MiB, load {before[0]:.1f}",
        file=sys.stderr,
    )
    keep(config.json, document(measured))


def run_process(python: Path, script: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Run one of the runners. Raises RankloopError with the last line of what it said."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": ""}
    if python == Path(sys.executable):
        environment["PYTHONPATH"] = str(REPOSITORY)
    command = [str(python), str(PEERS / f"{script}.py")]
    done = subprocess.run(
        command, input=json.dumps(settings), capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        said = (done.stderr.strip() or "nothing said").splitlines()[-1]
        raise RankloopError(f"The runner {script} failed ({said}); what it printed stands above.")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def time_to_reward(config: Benchmark, measured: Measured, pythons: dict[str, Path], common: dict[str, Any]) -> None:
    """TRL at each learning rate, then ours with its defaults, on the same Python reward and KL weight."""
    settings = common | {"updates": config.reward_updates, "reward": "short_words", "options": {}}
    for lr in config.learning_rates:
        run_one(config, measured, pythons, TRL, settings | {"lr": lr}, part="reward", lr=lr)
    functions = (f"{PEERS / 'rewards.py'}:reward",)
    options = {"functions": functions, "reward": None}
    run_one(config, measured, pythons, OURS, settings | {"options": options}, part="reward")


if __name__ == "__main__":
    main()
