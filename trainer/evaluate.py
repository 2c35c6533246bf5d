"""Is the reward model right on held-out rankings, and is the policy better on held-out prompts?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from preferences import intervals
from preferences.errors import RankloopError
from preferences.intervals import Interval
from preferences.records import Policy, Split
from preferences.store import Store
from trainer.models import Base
from trainer.ranked import Ranked, load_ranked
from trainer.roles import Roles
from trainer.sample import SampleStage, queue, respond
from trainer.scoring import RewardModel
from trainer.stage import Stage, open_study


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateReward(Stage):
    """Accuracy of a reward model on rankings of held-out prompts, beside the baselines that only look at length."""

    adapter: Path
    """The 'adapter' folder of a reward run."""
    split: Split = "heldout"
    """Which prompts: heldout or train."""
    include_simulated: bool = False
    """Judge by the rankings of simulated annotators too."""
    token_budget: int = 4096
    """Tokens scored at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatePolicy(SampleStage):
    """Answers of two policies to the held-out prompts, scored by a reward model, and queued blind beside each other."""

    adapter: Path
    """The 'adapter' folder of the policy's run."""
    against: str | None = None
    """Name of the policy to compare with; default the one it was trained from."""
    reward: Path | None = None
    """A reward model that scores the answers."""
    queue: bool = False
    """Queue the answers of both, mixed, for the annotators."""


def evaluate_reward(config: EvaluateReward, store: Store, base: Base) -> dict[str, Any]:
    """{"accuracy": {value, low, high, n}, "longer_wins", "shorter_wins", "ties", "prompts", "score_mean", "score_std"}."""
    study = open_study(store, config.study)
    ranked = load_ranked(store, study, base, config.split, config.include_simulated)
    if not any(r.pairs for r in ranked):
        hint = "" if config.include_simulated else " (rankings by simulated annotators need --include-simulated)"
        raise RankloopError(f"Study {study.name!r} has no decided pair in split {config.split}{hint}.")
    roles = Roles(base)
    model = RewardModel.load(roles, "reward", config.adapter)
    scores = model.score_all([e for r in ranked for e in r.examples], config.token_budget)
    per_prompt = split_like(scores, ranked)
    lengths = [[float(len(text)) for text in r.texts] for r in ranked]
    return {
        "accuracy": accuracy(ranked, per_prompt).as_dict(),
        "longer_wins": accuracy(ranked, lengths).value,
        "shorter_wins": accuracy(ranked, [[-x for x in row] for row in lengths]).value,
        "ties": sum(len(r.ties) for r in ranked),
        "prompts": len({r.prompt for r in ranked}),
        "score_mean": float(np.mean(scores)),
        "score_std": float(np.std(scores)),
    }


def split_like(scores: Sequence[float], ranked: Sequence[Ranked]) -> list[list[float]]:
    """One list of scores a comparison."""
    ends = np.cumsum([len(r.examples) for r in ranked])
    return [list(part) for part in np.split(np.asarray(scores), ends[:-1])]


def accuracy(ranked: Sequence[Ranked], scores: Sequence[Sequence[float]]) -> Interval:
    """Share of decided pairs that the scores order like the rankings; equal scores count one half."""
    hits: dict[str, float] = {}
    trials: dict[str, float] = {}
    for r, row in zip(ranked, scores, strict=True):
        for better, worse, _ in r.pairs:
            hit = 0.5 + 0.5 * float(np.sign(row[better] - row[worse]))
            hits[r.prompt] = hits.get(r.prompt, 0.0) + hit
            trials[r.prompt] = trials.get(r.prompt, 0.0) + 1
    return intervals.ratio(list(hits.values()), list(trials.values()))


def evaluate_policy(config: EvaluatePolicy, store: Store, base: Base) -> dict[str, Any]:
    """{"prompts", "policy", "against", and for each of the two {"length", "eos_rate", "score"}, "win_rate", "queued"}."""
    study = open_study(store, config.study)
    policy = _policy_of(store, config.adapter)
    against = store.policies.get(config.against or _parent(policy))
    prompts = store.prompts.all("heldout", study.id)[: config.prompts]
    if not prompts:
        raise RankloopError(f"Study {study.name!r} has no held-out prompts; import more with `labeler import prompts`.")
    roles = Roles(base)
    model = RewardModel.load(roles, "reward", config.reward) if config.reward else None
    k = config.k or study.k
    with tqdm(total=2 * k * len(prompts), desc="sample", unit="answer") as bar:
        answers = [respond(config, store, roles, [one], prompts, k, bar.update) for one in (policy, against)]
    result: dict[str, Any] = {"prompts": len(prompts), "policy": policy.name, "against": against.name}
    scores = []
    for name, rows in zip(("new", "old"), answers, strict=True):
        flat = [response for row in rows for response in row]
        facts: dict[str, Any] = {
            "length": float(np.mean([r.tokens for r in flat])),
            "eos_rate": float(np.mean([r.finish_reason == "stop" for r in flat])),
        }
        if model:
            drawn = np.array(model.score_responses(flat, prompts, config.token_budget)).reshape(len(prompts), k)
            scores.append(drawn)
            facts["score"] = intervals.mean(drawn.mean(1)).as_dict()
        result[name] = facts
    if model:
        new, old = scores
        wins = (np.sign(new[:, :, None] - old[:, None, :]) * 0.5 + 0.5).mean((1, 2))
        result["win_rate"] = intervals.mean(wins).as_dict()
        result["score_difference"] = intervals.mean((new - old).mean(1)).as_dict()
    if config.queue:
        half = max(1, study.k // 2)
        mixed = [[*new[:half], *old[: study.k - half]] for new, old in zip(*answers, strict=True)]
        result["queued"] = queue(store, study, prompts, mixed)
    return result


def _parent(policy: Policy) -> str:
    if policy.parent is None:
        raise RankloopError(
            f"Policy {policy.name!r} was not trained from another policy; give --against a policy's name."
        )
    return policy.parent


def _policy_of(store: Store, adapter: Path) -> Policy:
    for policy in store.policies.all():
        if policy.adapter == str(adapter.resolve()):
            return policy
    raise RankloopError(
        f"{adapter} is not the adapter of a policy in this database; give the 'adapter' folder of its run."
    )
