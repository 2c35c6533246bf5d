"""Is the reward model right on held-out rankings, and is the policy better on held-out prompts?"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from preferences import intervals
from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.records import Policy, Prompt, Response, Split
from preferences.store import Store
from trainer.blind import human_answers, queue_blind
from trainer.elements import distinct
from trainer.models import Base
from trainer.ranked import Ranked, context_length, fitting, load_ranked
from trainer.ranked_files import ranked_file
from trainer.recheck import checked_reward
from trainer.reward_metrics import accuracy, by, kendall_tau, lengths, negated, pairs_of, top_1
from trainer.roles import Roles
from trainer.sample import SampleStage, fitted, respond, sampler_of
from trainer.scoring import Scorer
from trainer.stage import Stage, open_study


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateReward(Stage):
    """Accuracy of a reward model on rankings of held-out prompts, beside the baselines that only look at length."""

    adapter: Path
    """The 'adapter' folder of a reward run."""
    file: Path | None = None
    """Judge by the rankings in this file (the record format of `labeler import`) instead of a study's."""
    split: Split = "heldout"
    """Which prompts of the study: heldout or train."""
    pessimism: float = 0.0
    """Take this many times the spread of an ensemble's members off their mean score."""
    include_simulated: bool = False
    """Judge by the rankings of simulated annotators too."""
    token_budget: int = 4096
    """Tokens scored at once."""

    def needs_store(self) -> bool:
        """A file needs no database."""
        return self.file is None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatePolicy(SampleStage):
    """Answers of policies to the held-out prompts, scored by a reward model, and queued blind beside each other."""

    adapter: Path
    """The 'adapter' folder of the policy's run."""
    against: str | None = None
    """Name of the policy to compare with; default the SFT policy it comes from (without one, the first of its line)."""
    also: tuple[str, ...] = ()
    """Further policies, such as checkpoints of the run (NAME@ITERATION), whose answers are queued among the others."""
    human: Path | None = None
    """A file of demonstrations (as `trainer sft` reads them) on the machine that evaluates; its answers to held-out prompts
    are queued among the others."""
    reward: Path | None = None
    """A reward model that scores the answers."""
    pessimism: float = 0.0
    """Take this many times the spread of an ensemble's members off their mean score."""
    queue: bool = False
    """Queue the answers of all, mixed, for the annotators."""

    def needs_base(self) -> bool:
        """Whoever draws the answers."""
        return True


def evaluate_reward(config: EvaluateReward, store: Store | None, base: Base) -> dict[str, Any]:
    """{"accuracy": {value, low, high, n}, "longer_wins", "shorter_wins", "ties", "by_source": {source: interval}, ...}."""
    ranked = judged_by(config, store, base)
    model = checked_reward(Roles(base), config.adapter, config.token_budget, config.pessimism)
    examples, rows = distinct(ranked)
    began = time.perf_counter()
    scores, spreads = model.judge_all(examples, config.token_budget)
    seconds = time.perf_counter() - began
    dealt = [[scores[i] for i in row] for row in rows]
    pairs = pairs_of(ranked, dealt)
    return {
        "accuracy": accuracy(ranked, dealt).as_dict(),
        "longer_wins": accuracy(ranked, lengths(ranked)).value,
        "shorter_wins": accuracy(ranked, negated(lengths(ranked))).value,
        "ties": sum(len(r.ties) for r in ranked),
        "by_source": {name: found.as_dict() for name, found in by(ranked, pairs, lambda _, r: r.source).items()},
        "kendall_tau": kendall_tau(ranked, dealt).as_dict(),
        "top_1": top_1(ranked, dealt).as_dict(),
        "comparisons": len(ranked),
        "prompts": len({r.prompt for r in ranked}),
        "answers": len(examples),
        "score_mean": float(np.mean(scores)),
        "score_std": float(np.std(scores)),
        "members": len(model.blocks),
        "spread": float(np.mean(spreads)),
        "seconds_an_answer": seconds / len(examples),
    }


def judged_by(config: EvaluateReward, store: Store | None, base: Base) -> list[Ranked]:
    """The rankings that are the measure. Raises RankloopError if none of them decides anything."""
    hint = "" if config.include_simulated else " (rankings by simulated annotators need --include-simulated)"
    if config.file is not None:
        ranked = ranked_file(config.file, base, config.include_simulated)
        where = f"{config.file} has no decided pair"
    else:
        assert store is not None, "Without a file there is a study to judge by."
        study = open_study(store, config.study)
        ranked = load_ranked(store, study, base, config.split, config.include_simulated)
        where = f"Study {study.name!r} has no decided pair in split {config.split}"
    kept, left_out = fitting(ranked, context_length(base))
    if left_out:
        print(left_out, file=sys.stderr)
    if not any(r.pairs for r in kept):
        raise RankloopError(f"{where}{' that fits the model' if left_out else hint}.")
    return kept


def evaluate_policy(config: EvaluatePolicy, store: Store, base: Base, job: Job | None = None) -> dict[str, Any]:
    """{"prompts", "policy", "against", and for each of the two {"length", "eos_rate", "score"}, "win_rate",
    "score_difference", "others": {policy: the same}, "human" (prompts that people answered), "queued", "equal"}; what was not
    asked for is left out.

    `job`: has the result from the moment at which the comparisons are queued, so that none is queued twice.
    """
    if job and "result" in job.progress:
        return dict(job.progress["result"])
    study = open_study(store, config.study)
    policy = _policy_of(store, config.adapter)
    against = store.policies.get(config.against) if config.against else _first(store, policy)
    further = {one.id: one for one in map(store.policies.get, config.also)}  # whoever is named twice has no more places
    others = [one for ident, one in further.items() if ident not in (policy.id, against.id)]
    prompts = store.prompts.all("heldout", study.id)[: config.prompts]
    if not prompts:
        raise RankloopError(f"Study {study.name!r} has no held-out prompts; import more with `labeler import prompts`.")
    k = config.k or study.k
    config = fitted(config, base, k)
    roles = Roles(base)
    sampler = sampler_of(config, roles, k)
    model = checked_reward(roles, config.reward, config.at_once, config.pessimism) if config.reward else None
    human = human_answers(store, config.human, prompts)[1] if config.human else None
    policies = [policy, against, *others]
    with tqdm(total=len(policies) * k * len(prompts), desc="sample", unit="answer") as bar:
        answers = [respond(config, store, sampler, [one], prompts, k, bar.update) for one in policies]
    found = [measured(config, model, prompts, rows) for rows in answers]
    result: dict[str, Any] = {"prompts": len(prompts), "policy": policy.name, "against": against.name}
    result |= {"new": found[0][0], "old": found[1][0]} | compared(found[0][1], found[1][1])
    if others:
        result["others"] = {
            one.name: facts | compared(scores, found[1][1])
            for one, (facts, scores) in zip(others, found[2:], strict=True)
        }
    if human is not None:
        result["human"] = sum(map(bool, human))
    with store.write():
        if config.queue:
            result |= queue_blind(store, study, prompts, [*answers, *([human] if human else [])], study.k)
        if job:
            store.jobs.hold(job, {"result": result})
    return result


def measured(
    config: EvaluatePolicy, model: Scorer | None, prompts: list[Prompt], rows: list[list[Response]]
) -> tuple[dict[str, Any], np.ndarray | None]:
    """Length, end rate and score of a policy's answers, and the scores [prompts, K]."""
    flat = [response for row in rows for response in row]
    facts: dict[str, Any] = {
        "length": float(np.mean([r.tokens for r in flat])),
        "eos_rate": float(np.mean([r.finish_reason == "stop" for r in flat])),
    }
    if not model:
        return facts, None
    drawn = np.array(model.score_responses(flat, prompts, config.at_once)).reshape(len(prompts), -1)
    return {**facts, "score": intervals.mean(drawn.mean(1)).as_dict()}, drawn


def compared(new: np.ndarray | None, old: np.ndarray | None) -> dict[str, Any]:
    """{"win_rate", "score_difference"} of scores [prompts, K], paired by prompt; {} without scores."""
    if new is None or old is None:
        return {}
    wins = (np.sign(new[:, :, None] - old[:, None, :]) * 0.5 + 0.5).mean((1, 2))
    return {
        "win_rate": intervals.mean(wins).as_dict(),
        "score_difference": intervals.mean((new - old).mean(1)).as_dict(),
    }


def _first(store: Store, policy: Policy) -> Policy:
    """What every round is held against."""
    if policy.parent is None:
        raise RankloopError(
            f"Policy {policy.name!r} was not trained from another policy; give --against a policy's name."
        )
    return store.policies.anchor(store.policies.get(policy.parent))


def _policy_of(store: Store, adapter: Path) -> Policy:
    for policy in store.policies.all():
        if policy.adapter == str(adapter.resolve()):
            return policy
    raise RankloopError(
        f"{adapter} is not the adapter of a policy in this database; give the 'adapter' folder of its run."
    )
