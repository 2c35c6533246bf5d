"""A PPO iteration in numbers, under TRL's names where it has one."""

import itertools
import resource
import sys
from collections.abc import Sequence

import torch

from trainer.batches import Example
from trainer.experience import Rollout, Targets
from trainer.ppo_math import explained_variance, kl_k1, kl_k3, masked_mean
from trainer.room import headroom


def describe(rollout: Rollout, targets: Targets, beta: float) -> dict[str, float]:
    """The rollout in numbers; KL is a sum over an answer's tokens, in nats; explained variance 0 where there is no value.

    Scores are as the rewards say them, and `scores_normalised` as they are trained on, but for the penalty of answers that do
    not end.
    """
    answers, mask = rollout.answers, rollout.answers.mask
    kl = (kl_k1(answers.old, rollout.reference) * mask).sum(1)
    k3 = (kl_k3(answers.old, rollout.reference) * mask).sum(1)
    lengths = mask.sum(1).float()
    scores, count = rollout.scores, len(answers.texts)
    return {
        "objective/kl": float(kl.mean()),
        "objective/kl_k3": float(k3.mean()),
        "objective/entropy": float(-answers.old.sum(1).mean()),
        "objective/non_score_reward": float(-beta * kl.mean()),
        "objective/scores": float(scores.mean()),
        "objective/scores_std": float(scores.std(correction=0)),
        "objective/scores_se": float(scores.std(correction=0)) / count**0.5,
        "objective/scores_normalised": float(targets.scores.mean()),
        "objective/rlhf_reward": float((scores - beta * kl).mean()),
        "val/num_eos_tokens": float(sum(answers.finished)),
        "val/eos_rate": sum(answers.finished) / count,
        "val/response_length": float(lengths.mean()),
        "val/response_length_p95": float(lengths.quantile(0.95)),
        "val/empty_rate": sum(not text for text in answers.texts) / count,
        "val/distinct_2": distinct_runs([example.response for example in answers.examples], 2),
        "val/explained_variance": explained_variance(answers.values, targets.returns, mask),
        "val/returns_mean": float(masked_mean(targets.returns, mask)),
        "val/returns_std": float(targets.returns[mask].std(correction=0)),
        "val/advantages_std": float(targets.plain[mask].std(correction=0)),
        "beta": beta,
    }


def cost(clock: Sequence[float], examples: Sequence[Example], epochs: float, device: torch.device) -> dict[str, float]:
    """What an iteration took: seconds of each phase, answers (`eps`) and tokens a second, memory.

    `clock`: seconds at its beginning and at the end of each phase. `epochs`: how often its answers were trained on; each of
    their tokens is judged once besides.
    """
    seconds, whole = [b - a for a, b in itertools.pairwise(clock)], clock[-1] - clock[0]
    return {
        **dict(zip(("seconds/generate", "seconds/score", "seconds/train"), seconds, strict=True)),
        "seconds/total": whole,
        "seconds/tokens_per_second": sum(map(len, examples)) * (1 + epochs) / whole,
        "seconds/peak_memory_mb": peak_memory(device),
        "seconds/memory_headroom_mb": headroom(device) / 1e6,
        "eps": len(examples) / whole,
    }


def distinct_runs(responses: Sequence[Sequence[int]], n: int) -> float:
    """Share of different ones among all runs of n tokens (Li et al. 2016, distinct-n); 1 if there is none."""
    runs = [tuple(response[i : i + n]) for response in responses for i in range(len(response) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def peak_memory(device: torch.device) -> float:
    """Megabytes: the most that was allocated on a GPU, or this process's largest resident size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
