"""The loop, unattended, once or several times, with a simulated annotator and its noiseless rule as judge."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from preferences import intervals
from preferences.cli import guarded
from preferences.errors import RankloopError
from preferences.exchange.importing import import_prompts
from preferences.records import Policy
from preferences.rounds import GateClosed, blind_win_rate, check_wins
from preferences.simulated import rule
from preferences.store import Store
from scripts import rounds_report
from scripts.annotator import Annotator, ceiling
from trainer.embedded import EMBEDDED
from trainer.evaluate import EvaluatePolicy, EvaluateReward
from trainer.ppo import Ppo
from trainer.reward import Reward
from trainer.sample import SampleStage
from trainer.sft import Sft
from trainer.stages import run


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The whole loop on a fresh database: prompts, answers, rankings, reward model, PPO, blind comparison; once or more."""

    json: Path | None = None
    """Write the results to this file."""
    out: Path | None = None
    """Folder of the database and the runs; default a new temporary one. It must not hold a round already."""
    rounds: int = 1
    """How often the loop is gone round. Each later one begins with answers of the policy that the one before made; the
    reference, and what every policy is held against, is the SFT policy throughout."""
    min_rankings: int = 0
    """Stop unless so many answers were ranked since the last reward model; 0 is no gate."""
    min_accuracy: float = 0.0
    """Stop unless the reward model orders this share of the held-out pairs like the rankings; 0 is no gate."""
    min_win_rate: float = 0.0
    """Stop unless the interval of the new policy's blind win rate lies above this; 0 is no gate."""
    fast: bool = False
    """The same at a small size, in under two minutes on a tiny random model, which it takes unless --model names another: it
    shows that everything works, not that anything improves."""
    thrifty: bool = False
    """Take the options that need least memory: checkpointing, one demonstration a step, the value on the policy's trunk."""
    model: str | None = None
    """Base model; default the embedded one."""
    quantize: str | None = None
    """Quantisation of the base: none, int8 or nf4; default by device."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise RankloopError(f"rounds must be at least 1, not {self.rounds}.")

    def gates(self) -> dict[str, float]:
        """As a study's plan has them."""
        return {name: getattr(self, name) for name in ("min_rankings", "min_accuracy", "min_win_rate")}

    @property
    def compares(self) -> bool:
        """Whether the annotator ranks the blind comparisons too: where a round follows, or a gate asks for it."""
        return self.rounds > 1 or self.min_win_rate > 0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. `prompts`: how many of the file, None for all."""

    prompts: int | None = None
    tokens: int = 48
    sft: dict[str, Any] = field(default_factory=dict)
    reward: dict[str, Any] = field(default_factory=lambda: {"epochs": 0.5})
    ppo: dict[str, Any] = field(
        default_factory=lambda: {"iterations": 8, "episodes": 32, "minibatches": 2, "lr": 2e-4, "value_lr": 4e-4}
    )


THRIFTY: dict[str, dict[str, Any]] = {
    "sft": {"checkpointing": True, "batch": 1},
    "reward": {"checkpointing": True},
    "ppo": {"checkpointing": True, "value": "trunk"},
}
FAST = Size(
    prompts=32, tokens=16, sft={"epochs": 0.5}, reward={"epochs": 1.0}, ppo={"iterations": 2, "episodes": 8, "lr": 1e-3}
)


class Loop:
    """A fresh database, its annotator, and what all stages share."""

    def __init__(self, config: Round) -> None:
        self.config, self.folder = config, config.out or Path(tempfile.mkdtemp(prefix="rankloop-round-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.size = FAST if config.fast else Size()
        if config.thrifty:
            changed = {stage: getattr(self.size, stage) | options for stage, options in THRIFTY.items()}
            self.size = replace(self.size, **changed)
        model = config.model or (tiny_model(self.folder) if config.fast else EMBEDDED)
        self.db = self.folder / "round.db"
        self.common: dict[str, Any] = {"db": self.db, "model": model, "quantize": config.quantize, "seed": config.seed}
        self.store = Store(self.db)
        self.study = self.store.studies.edit(self.store.studies.default(), plan=config.gates())
        self.annotator = Annotator(self.db, config.seed)
        self.compared = 0  # blind comparisons that were ranked since the last reward model

    def begin(self, clock: "Clock") -> None:
        """Prompts, and the SFT policy."""
        with clock("prompts"):
            import_prompts(self.store, self.study, prompt_file(self.folder, self.size.prompts), heldout=0.25)
        with clock("sft"):
            run(Sft(**self.common, out=self.folder / "sft", **self.size.sft))

    def turn(self, number: int, clock: "Clock") -> dict[str, Any]:
        """Sample, rank, reward, PPO, evaluate; its figures, of which `rankings` are those since the last reward model.

        Raises GateClosed.
        """
        store, common, tokens = self.store, self.common, self.size.tokens
        reward, ppo = self.run_folder("reward", number), self.run_folder("ppo", number)
        with clock("sample"):
            run(SampleStage(**common, max_new_tokens=tokens))
        with clock("rank"):
            rankings = self.compared + self.annotator.rank_all()
        with clock("reward"):
            run(Reward(**common, out=reward, include_simulated=True, **self.size.reward))
            found = run(EvaluateReward(**common, adapter=reward / "adapter", include_simulated=True))
        with clock("ppo"):
            options = {"reward": reward / "adapter", "max_new_tokens": tokens, "sample_next": False, **self.size.ppo}
            trained = run(Ppo(**common, out=ppo, **options))
        with clock("evaluate"):
            compared = run(
                EvaluatePolicy(
                    **common, adapter=ppo / "adapter", reward=reward / "adapter", max_new_tokens=tokens, queue=True
                )
            )
        policy = store.policies.get(ppo.name)
        sft = store.policies.anchor(policy)
        blind = self.compare(policy, sft, clock) if self.config.compares else {}
        accuracy = found["accuracy"]
        return {
            "rankings": rankings,
            "reward": {
                "accuracy": accuracy["value"], "low": accuracy["low"], "high": accuracy["high"],
                "longer_wins": found["longer_wins"], "shorter_wins": found["shorter_wins"], "ceiling": ceiling(store),
            },
            "judge": judge(store, sft, policy),
            "kl": trained["kl"],
            **blind,
            "seconds": clock.seconds,
            "policies": compared,
            "folder": str(self.folder),
        }  # fmt: skip

    def run_folder(self, stage: str, number: int) -> Path:
        """Of a round's run, which is also the name of its policy."""
        return self.folder / (stage if number == 1 else f"{stage}-{number}")

    def compare(self, policy: Policy, sft: Policy, clock: "Clock") -> dict[str, Any]:
        """The blind comparisons are ranked as well; {"win_rate": of the new policy against SFT}."""
        with clock("blind"):
            self.compared = self.annotator.rank_all()
            return {"win_rate": blind_win_rate(self.store, self.study, policy, sft, simulated=True)}

    def promote(self, number: int) -> None:
        """The round's policy answers from now on. Raises GateClosed."""
        policy = self.store.policies.get(self.run_folder("ppo", number).name)
        check_wins(self.store, self.study, policy, simulated=True)
        self.store.promotions.promote(self.study, policy, "", f"Round {number}.")


def play(config: Round) -> dict[str, Any]:
    """All rounds; the document that `--json` writes. Raises GateClosed if the first one does not come to its end.

    It has the figures of the last round that did, but `seconds` of all of them; of several rounds also `rounds`, those of
    each, and `stopped`: why no other one followed, or None.
    """
    loop = Loop(config)
    rounds: list[dict[str, Any]] = []
    stopped = None
    clock = Clock()
    loop.begin(clock)
    for number in range(1, config.rounds + 1):
        try:
            rounds.append(loop.turn(number, clock))
            loop.promote(number)
        except GateClosed as gate:
            if not rounds:
                raise
            stopped = f"Round {number} stops: {gate}"
            break
        clock = Clock()
    result = {**rounds[-1], "seconds": total_seconds(rounds)}
    if config.compares:
        result |= {"rounds": rounds, "stopped": stopped}
    rounds_report.write(loop.folder / "report", rounds, stopped)
    return result


def total_seconds(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Of each stage, over all rounds."""
    stages = dict.fromkeys(stage for figures in rounds for stage in figures["seconds"])
    return {stage: round(sum(figures["seconds"].get(stage, 0.0) for figures in rounds), 1) for stage in stages}


class Clock:
    """Seconds a stage, with one line on standard error as each begins."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        print(f"== {stage}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 1)


def prompt_file(folder: Path, count: int | None) -> Path:
    """The round prompts, or the first few of them."""
    path = Path("data/round_prompts.jsonl")
    if count is None:
        return path
    part = folder / "prompts.jsonl"
    part.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:count]))
    return part


def tiny_model(folder: Path) -> str:
    """A tiny random model with a tokenizer, loaded like any other."""
    from tests.tiny import save_tiny_llama

    return str(save_tiny_llama(folder / "tiny"))


def judge(store: Store, sft: Policy, ppo: Policy) -> dict[str, Any]:
    """Mean of the noiseless rule on held-out prompts, each counting once: SFT, PPO, and PPO - SFT paired by prompt."""
    means: dict[str, list[float]] = {}
    for name, policy in (("sft", sft), ("ppo", ppo)):
        means[name] = [
            float(np.mean([rule(r.text) for r in store.responses.of_prompt(prompt.id, policy.id)]))
            for prompt in store.prompts.all("heldout")
        ]
    result = {name: intervals.mean(values).as_dict() for name, values in means.items()}
    result["difference"] = intervals.mean(np.subtract(means["ppo"], means["sft"])).as_dict()
    return result


def summary(result: dict[str, Any]) -> str:
    """The outcome: four lines a round, and where everything is."""
    rounds = result.get("rounds", [result])
    lines = []
    for number, figures in enumerate(rounds, 1):
        lines += [f"round {number} of {len(rounds)}"] if len(rounds) > 1 else []
        lines += told(figures)
    seconds = result["seconds"]
    lines.append(f"seconds   {seconds} = {sum(seconds.values()):.0f}; everything is in {result['folder']}")
    return "\n".join([*lines, *([result["stopped"]] if result.get("stopped") else [])])


def told(figures: dict[str, Any]) -> list[str]:
    """A round in three lines, or four."""
    reward, verdict, wins = figures["reward"], figures["judge"], figures.get("win_rate")

    def shown(estimate: dict[str, float]) -> str:
        return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"

    return [
        f"rankings  {figures['rankings']} (the annotator agrees with its own rule on {reward['ceiling']:.1%} of pairs)",
        f"reward    {reward['accuracy']:.3f} [{reward['low']:.3f}, {reward['high']:.3f}] of held-out pairs; "
        f"longer wins {reward['longer_wins']:.3f}, shorter wins {reward['shorter_wins']:.3f}",
        f"judge     SFT {shown(verdict['sft'])}, PPO {shown(verdict['ppo'])}, "
        f"difference {shown(verdict['difference'])}; KL {figures['kl']:.2f} nats an answer",
        *([f"blind     PPO wins {shown(wins)} of its comparisons with SFT"] if wins else []),
    ]


def main() -> None:
    """Play and report."""
    config = tyro.cli(Round, config=(tyro.conf.FlagCreatePairsOff,))
    result = play(config)
    print(summary(result))
    if config.json:
        config.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    guarded(main)
