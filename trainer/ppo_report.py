"""Everything that a report says of a PPO run, as one document of numbers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from preferences import intervals
from preferences.blind import blind
from preferences.errors import RankloopError
from preferences.intervals import Array, Statistic, divided, statistic, undefined
from preferences.records import Policy, Prompt, Study
from preferences.store import Store
from trainer.budget import Budget, sampling_budget
from trainer.experience import Answers, drawn_answers
from trainer.frontier import Checkpoint, choice, frontier
from trainer.judges import Judges
from trainer.metrics import distinct_runs
from trainer.models import Base
from trainer.policies import load_policy
from trainer.ppo import Ppo
from trainer.ppo_math import kl_k1
from trainer.recheck import checked_reward
from trainer.rewards import RewardFunction, summed
from trainer.roles import Roles
from trainer.rollout import Sampling
from trainer.runs import Run
from trainer.scoring import Scorer

KEY = 3  # of the report's random numbers, beside 1 and 2 of the rollouts and the looks
CHANGES = 5  # prompts that gained most, and that lost most
SHRUNK, GROWN = 0.8, 1.5  # of the start's diversity or length, beyond which the report warns

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """An adapter of the run. `iteration`: 0 for the start."""

    name: str
    iteration: int
    role: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A checkpoint's answers to the P held-out prompts: `scores`, `kl` [P]; `characters` [P] of the texts."""

    kept: Kept
    answers: Answers
    scores: Array
    kl: Array

    @property
    def characters(self) -> Array:
        """[P]."""
        return np.array([len(text) for text in self.answers.texts])


class Material:
    """The run's roles on the base: its start, the adapters that were kept, its last one, and its reward."""

    def __init__(self, run: Run, options: Ppo, start: Policy, base: Base, token_budget: int) -> None:
        self.options, self.roles, self.token_budget = options, Roles(base), token_budget
        document = run.config()
        self.start = load_policy(self.roles, start)
        self.kept = [Kept(start.name, 0, self.start)]
        found = [
            (one["iteration"], one["name"], run.snapshot(one["iteration"])) for one in document.get("snapshots", [])
        ]
        last = options.name or run.folder.name
        for number, (iteration, name, folder) in enumerate([*found, (document["iterations"], last, run.adapter)]):
            role = f"checkpoint-{number:03d}"
            self.roles.load(role, folder)
            self.kept.append(Kept(name, iteration, role))
        self.reward: Scorer | None = None
        if options.reward:
            self.reward = checked_reward(self.roles, options.reward, token_budget, options.pessimism)
        self.functions = [RewardFunction.load(name) for name in options.functions]

    def draw(self, prompts: Sequence[Prompt]) -> list[Drawn]:
        """An answer of each to each prompt, drawn with the same random numbers."""
        return [self.drawn(kept, prompts) for kept in tqdm(self.kept, desc="report", unit="checkpoint")]

    def drawn(self, kept: Kept, prompts: Sequence[Prompt]) -> Drawn:
        """An answer to each prompt, judged as in training, but for the penalty of answers that do not end."""
        options = self.options
        sampling = Sampling(options.temperature, 1.0, options.max_new_tokens)
        at_once = sampling_budget(self.token_budget)
        answers = drawn_answers(self.roles, kept.role, prompts, (options.seed, KEY), sampling, at_once)
        judges = Judges(self.roles, self.start, None, self.reward, options.temperature)
        budget = Budget(self.token_budget, self.roles.together)
        rollout = judges.judge(answers, budget)
        # As the reference is asked: the generation's own would differ from it by rounding, and the start by more than 0.
        own, _ = judges.replay(kept.role, None, answers.examples, budget)
        kl = (kl_k1(own, rollout.reference) * answers.mask).sum(1)
        scores, _ = summed(rollout.scores, options.reward_weight, self.functions, answers.prompts, answers.texts)
        return Drawn(kept, answers, as_array(scores), as_array(kl))


def as_array(tensor: torch.Tensor) -> Array:
    """Out of torch."""
    return np.asarray(tensor.detach().float().cpu().numpy(), float)


def document_of(material: Material, prompts: Sequence[Prompt], people: dict[str, Any]) -> Document:
    """{"points", "recommended", "changes", "scores", "counts", "warnings"}; `people`: what `blind` says of each policy
    against the start."""
    drawn = material.draw(prompts)
    start, rest = drawn[0], drawn[1:]
    checkpoints = [checkpoint_of(one, people) for one in drawn]
    chosen = choice(checkpoints[0], checkpoints[1:])
    points = [point(one, start, people.get(one.kept.name)) for one in drawn]
    for one, on in zip(points, frontier(checkpoints), strict=True):
        one["frontier"] = on
    taken = rest[chosen.index] if chosen.index is not None else None
    return {
        "points": points,
        "recommended": {
            "name": taken.kept.name if taken else start.kept.name,
            "iteration": taken.kept.iteration if taken else 0,
            "reason": chosen.reason,
        },
        "changes": changes(prompts, start, taken or rest[-1]),
        "scores": {one.kept.name: one.scores.tolist() for one in drawn},
        "counts": {"held-out prompts": len(prompts), "checkpoints": len(rest)},
        "warnings": warnings_of(points, taken.kept.name if taken else None),
    }


def checkpoint_of(one: Drawn, people: dict[str, Any]) -> Checkpoint:
    """What the choice between checkpoints rests on."""
    said = people.get(one.kept.name, {}).get("win_rate", {})
    worse = said.get("high") is not None and said["high"] < 0.5
    return Checkpoint(one.kept.name, float(one.kl.mean()), one.scores, worse)


def point(one: Drawn, start: Drawn, people: dict[str, Any] | None) -> Document:
    """A checkpoint in numbers; differences and wins are against the start, paired by prompt."""
    gaps = one.scores - start.scores
    tokens = one.answers.mask.sum(1).cpu().numpy()
    ids = [example.response for example in one.answers.examples]
    return {
        "name": one.kept.name,
        "iteration": one.kept.iteration,
        "kl": intervals.mean(one.kl.tolist()).as_dict(),
        "sqrt_kl": float(np.sqrt(max(0.0, one.kl.mean()))),
        "score": intervals.mean(one.scores.tolist()).as_dict(),
        "difference": intervals.mean(gaps.tolist()).as_dict(),
        "matched": at_matched_length(gaps, np.log2((1 + one.characters) / (1 + start.characters))),
        "win_rate": intervals.mean((np.sign(gaps) / 2 + 0.5).tolist()).as_dict(),
        "people": people["win_rate"] if people else undefined("nobody ranked its answers beside the start's"),
        "people_decide": people["sequential"]["decision"] if people else "open",
        "length": intervals.mean(tokens.tolist()).as_dict(),
        "eos_rate": float(np.mean(one.answers.finished)),
        "distinct": {str(n): distinct_runs(ids, n) for n in (1, 2, 3)},
        "entropy": float(-one.answers.old.sum() / one.answers.mask.sum()),
    }


def at_matched_length(gaps: Array, doublings: Array) -> Statistic:
    """What is left of score differences [P] where the answers are equally long: the line through (doublings, gaps) at 0.

    `doublings` [P]: log2 of how many times longer the answer is than the start's to the same prompt.
    """
    if not np.ptp(doublings) and doublings.any():
        return undefined("all answers differ from the start's by the same factor in length")
    sums = np.stack([np.ones(len(gaps)), doublings, gaps, doublings**2, doublings * gaps], 1)
    return statistic(intercept, sums, len(gaps), (None, None), "the lengths of the answers hardly differ")


def intercept(total: Array) -> Array:
    """[...] of the least-squares line from totals [..., 5] of 1, x, y, x², xy; the mean of y where x is always 0."""
    n, x, y, xx, xy = np.moveaxis(total, -1, 0)
    level = xx * n - x**2
    flat = (xx == 0) & (x == 0)
    return np.where(flat, divided(y, n), divided(y * xx - x * xy, np.where(np.abs(level) < 1e-9, 0, level)))


def changes(prompts: Sequence[Prompt], start: Drawn, one: Drawn) -> list[Document]:
    """The prompts on which the checkpoint gained most and lost most against the start, with both answers."""
    gaps = one.scores - start.scores
    order = np.argsort(-gaps, kind="stable").tolist()
    shown = dict.fromkeys([*order[:CHANGES], *order[max(0, len(order) - CHANGES) :]])
    return [
        {
            "prompt": prompts[i].messages[-1]["content"], "change": float(gaps[i]), "before": start.answers.texts[i],
            "after": one.answers.texts[i], "score_before": float(start.scores[i]), "score_after": float(one.scores[i]),
        }
        for i in shown
    ]  # fmt: skip


def warnings_of(points: Sequence[Document], taken: str | None) -> list[str]:
    """What the numbers say against the checkpoint that is recommended, or against the last one."""
    start = points[0]
    one = next((point for point in points if point["name"] == taken), points[-1])
    name, found = one["name"], []
    gain, matched = one["difference"], one["matched"]
    if gain["low"] is not None and gain["low"] > 0 and matched.get("low") is not None and matched["low"] <= 0:
        found.append(
            f"{name} scores {gain['value']:+.2f} against the start, but at matched length {matched['value']:+.2f} with 0 "
            "inside its interval: the gain may be one of length."
        )
    if one["distinct"]["2"] < SHRUNK * start["distinct"]["2"]:
        found.append(
            f"{name} repeats itself: distinct-2 fell from {start['distinct']['2']:.2f} to {one['distinct']['2']:.2f}."
        )
    if one["length"]["value"] > GROWN * start["length"]["value"]:
        found.append(
            f"{name} writes {one['length']['value'] / start['length']['value']:.1f} times as many tokens as the start."
        )
    if one["eos_rate"] < start["eos_rate"] - 0.1:
        found.append(f"{name} ends {one['eos_rate']:.0%} of its answers itself; the start, {start['eos_rate']:.0%}.")
    if one["people"].get("high") is not None and one["people"]["high"] < 0.5:
        found.append(f"People prefer the start to {name}, whatever the reward says.")
    return found


def people_of(store: Store, study: Study, start: Policy, simulated: bool) -> dict[str, Any]:
    """What annotators say of each policy against the start; {} where they never met."""
    try:
        found: dict[str, Any] = blind(store, study, start.name, simulated)["policies"]
    except RankloopError:
        return {}
    return found


def hashes(run: Run, document: Document, options: Ppo) -> dict[str, str]:
    """What was trained on what: of the adapter, of the reward model and its rankings, of the tokenizer."""
    found = {
        "adapter": file_hash(run.adapter / "adapter_model.safetensors"),
        "tokenizer": document["base"]["tokenizer"],
    }
    if options.reward:
        found["reward"] = file_hash(options.reward / "adapter_model.safetensors")
        card = options.reward / "rankloop.json"
        if card.is_file():
            found["rankings of the reward"] = str(json.loads(card.read_text()).get("data_hash", ""))
    return {name: value for name, value in found.items() if value}


def file_hash(path: Path) -> str:
    """The beginning of the file's SHA-256; "" without a file (an ensemble's members have folders of their own)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
