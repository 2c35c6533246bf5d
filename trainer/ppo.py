"""PPO from a learned reward: policy, reference, value and reward are adapters on one frozen base.

The order of an iteration is that of Ziegler et al. 2019 and of the reimplementations that reproduce it.
"""

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from preferences.errors import RankloopError
from preferences.records import Policy, Prompt
from preferences.store import Store
from trainer.batches import Example, chunks, micro_batches
from trainer.experience import RatioOff, Rollout, Targets, check_first
from trainer.models import Base
from trainer.policies import load_policy, sampling_policies
from trainer.ppo_math import (
    advantages_and_returns,
    entropy,
    explained_variance,
    kl_k1,
    kl_k3,
    masked_mean,
    masked_whiten,
    policy_loss,
    token_rewards,
    value_loss,
)
from trainer.roles import Roles, lora_config
from trainer.rollout import Sampling, generate
from trainer.runs import Run, check_free
from trainer.scoring import RewardModel
from trainer.stage import Stage, check_name, open_study, register

POSITIVE = (
    "iterations", "episodes", "epochs", "minibatches", "lr", "value_lr", "clip", "value_clip", "score_clip",
    "max_grad_norm", "temperature", "max_new_tokens", "token_budget", "sample_budget", "rank",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppo(Stage):
    """Improve a policy against a reward model; the result becomes the study's next sampling policy."""

    out: Path
    """Folder of the run."""
    reward: Path
    """The reward model: the 'adapter' folder of a reward run."""
    start: str | None = None
    """Policy to start from, which stays as the reference; default the study's sampling policy."""
    name: str | None = None
    """Name of the new policy; default the run folder's."""
    iterations: int = 12
    """Rollouts, each followed by its updates."""
    episodes: int = 32
    """Answers a rollout."""
    epochs: int = 1
    """Passes over each rollout."""
    minibatches: int = 1
    """Updates a pass."""
    lr: float = 1e-4
    """Learning rate of the policy's adapter; linear decay."""
    value_lr: float = 2e-4
    """Learning rate of the value's adapter and head; linear decay."""
    beta: float = 0.05
    """Weight of the KL penalty."""
    clip: float = 0.2
    """How far the ratio may move in one rollout."""
    value_clip: float = 0.2
    """How far values may move in one rollout."""
    gamma: float = 1.0
    """Discount."""
    lam: float = 0.95
    """GAE's lambda."""
    missing_eos_penalty: float = 1.0
    """Taken off the normalised score of an answer that does not end itself."""
    score_clip: float = 5.0
    """Normalised scores are kept within this."""
    max_grad_norm: float = 1.0
    """Gradients of each role are scaled down to this norm."""
    temperature: float = 0.8
    """Sampling temperature of the rollouts."""
    max_new_tokens: int = 128
    """Answers are cut after this many tokens."""
    token_budget: int = 4096
    """Tokens a micro-batch, all roles together."""
    sample_budget: int = 6144
    """Prompt and answer tokens sampled at once."""
    rank: int = 16
    """Rank of the policy's adapter if it starts from the plain base."""
    sample_next: bool = True
    """Let the new policy answer the study's prompts from now on."""

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in self.__slots__}
        wrong = [f"{name} must be above 0, not {values[name]}" for name in POSITIVE if values[name] <= 0]
        for name in ("beta", "missing_eos_penalty"):
            if values[name] < 0:
                wrong.append(f"{name} must be at least 0, not {values[name]}")
        for name in ("gamma", "lam"):
            if not 0 <= values[name] <= 1:
                wrong.append(f"{name} must be from 0 to 1, not {values[name]}")
        if self.episodes < self.minibatches:
            wrong.append(f"episodes ({self.episodes}) must be at least minibatches ({self.minibatches})")
        if wrong:
            raise RankloopError("; ".join(wrong) + ".")


def ppo(config: Ppo, store: Store, base: Base) -> dict[str, Any]:
    """Train, save the policy's adapter, register the policy; {"policy", "adapter", "kl", "scores", "iterations"}."""
    study, name = open_study(store, config.study), config.name or config.out.name
    check_free(config.out)
    check_name(store, name)
    start = store.policies.get(config.start) if config.start else sampling_policies(store, study, base)[-1]
    prompts = store.prompts.all("train", study.id)
    if not prompts:
        raise RankloopError(f"Study {study.name!r} has no training prompts; import some with `labeler import prompts`.")
    run = Run(config.out)
    trainer = PpoTrainer(config, base, start, run)  # refuses a wrong adapter, before anything is written
    run.start("ppo", config, base, parent=start.id, prompts=len(prompts))
    try:
        state, metrics = trainer.train(prompts)
    except RatioOff as error:
        run.finish("failed", error=str(error))
        raise
    card = {"kind": "ppo", "parent": start.id, "iterations": trainer.done}
    trainer.roles.save("policy", run.adapter, card)
    if state == "interrupted":
        run.finish(state, iterations=trainer.done)
        raise KeyboardInterrupt
    facts = {"parent": start.id, "data_hash": str(trainer.reward.card.get("data_hash", ""))}
    settings = run.config()["config"]
    policy = register(store, study, name, "ppo", base, run.adapter, config.sample_next, config=settings, **facts)
    run.finish(policy=policy.id, iterations=trainer.done, **metrics)
    return {
        "policy": policy.name, "adapter": str(run.adapter), "iterations": trainer.done,
        "kl": metrics["objective/kl"], "scores": metrics["objective/scores"],
    }  # fmt: skip


class PpoTrainer:
    """One run's roles, optimizers and counters."""

    def __init__(self, config: Ppo, base: Base, start: Policy, run: Run) -> None:
        self.config, self.run, self.done = config, run, 0
        self.roles = roles = Roles(base)
        self.reference = load_policy(roles, start)
        if self.reference == "base":
            roles.add("policy", lora_config(base, config.rank, 2 * config.rank))
        else:
            roles.copy(self.reference, "policy")
        self.reward = RewardModel.load(roles, "reward", config.reward)
        self.reward.copy_as_value("value")
        roles.train_only("policy", "value")
        self.trained = {role: roles.parameters(role) for role in ("policy", "value")}
        rates = {"policy": config.lr, "value": config.value_lr}
        groups = [{"params": self.trained[role], "lr": rates[role]} for role in rates]
        self.optimizer = torch.optim.AdamW(groups, eps=1e-5, weight_decay=0.0)
        iterations = config.iterations
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda i: 1 - i / iterations)

    def train(self, prompts: list[Prompt]) -> tuple[str, dict[str, Any]]:
        """All iterations; how it ended ("finished" or "interrupted" by Ctrl-C) and the last metrics."""
        batches = endless(prompts, self.config.episodes, self.config.seed)
        metrics: dict[str, Any] = {}
        with tqdm(range(self.config.iterations), desc="ppo", unit="rollout") as bar:
            try:
                for _ in bar:
                    metrics = self.step(next(batches))
                    self.done += 1
                    bar.set_postfix(score=f"{metrics['objective/scores']:.2f}", kl=f"{metrics['objective/kl']:.2f}")
            except KeyboardInterrupt:
                return "interrupted", metrics
        return "finished", metrics

    def step(self, prompts: list[Prompt]) -> dict[str, float]:
        """One iteration: sample, judge, estimate advantages, update; its metrics, which are also logged."""
        clock = [time.perf_counter()]
        samples = self.sample(prompts)  # 1. answers with the log-probabilities they were drawn with
        clock.append(time.perf_counter())
        rollout = self.judge(*samples)  # 2. reference, values and scores in one routed pass
        clock.append(time.perf_counter())
        targets = self.targets(rollout)  # 3. rewards, advantages (whitened over the whole rollout), returns
        updates = self.update(rollout, targets)  # 4. clipped updates of policy and value
        clock.append(time.perf_counter())
        seconds = dict(zip(("generate", "score", "train"), (b - a for a, b in itertools.pairwise(clock)), strict=True))
        metrics = {**self.describe(rollout, targets), **updates, **{f"seconds/{k}": v for k, v in seconds.items()}}
        self.schedule.step()  # 5. linear decay
        shown = [
            {"prompt": prompt.messages[-1]["content"], "response": text, "score": score}
            for prompt, text, score in list(zip(prompts, rollout.texts, rollout.scores.tolist(), strict=True))[:4]
        ]
        self.run.log({"step": self.done + 1, **metrics, "samples": shown})
        return metrics

    def sample(self, prompts: list[Prompt]) -> tuple[list[Example], list[str], list[bool], list[list[float]]]:
        """One answer a prompt from the policy."""
        config, base = self.config, self.roles.base
        ids = [base.prompt_ids(prompt.messages) for prompt in prompts]
        keys = [(config.seed, 1, self.done, i) for i in range(len(ids))]
        sampling = Sampling(config.temperature, 1.0, config.max_new_tokens)
        drawn = generate(self.roles, "policy", ids, keys, sampling, config.sample_budget)
        examples = [Example(prompt, sample.ids) for prompt, sample in zip(ids, drawn, strict=True)]
        texts = [base.text(sample.ids) for sample in drawn]
        return examples, texts, [sample.finished for sample in drawn], [sample.logprobs for sample in drawn]

    @torch.no_grad()
    def judge(
        self, examples: list[Example], texts: list[str], finished: list[bool], logprobs: list[list[float]]
    ) -> Rollout:
        """What reference, value and reward say: their rows stand in one batch, so a micro-batch is one pass."""
        device, width = self.roles.base.device, max(len(example.response) for example in examples)
        reference, values, old, mask = (torch.zeros(len(examples), width, device=device) for _ in range(4))
        scores = torch.zeros(len(examples), device=device)
        for rows in micro_batches([len(e) for e in examples], self.config.token_budget // 3):
            n = len(rows)
            batch = self.roles.collate([examples[i] for i in rows] * 3)
            spans = [(role, slice(i * n, (i + 1) * n)) for i, role in enumerate((self.reference, "value", "reward"))]
            with self.roles.routed(*spans):
                states = self.roles.response_states(batch)
            r = batch.response_ids.shape[1]
            drawn, _ = self.logprobs(states[:n, :-1], batch.response_ids[:n])
            reference[rows, :r] = drawn
            values[rows, :r] = self.roles.heads["value"](states[n : 2 * n, :-1].float()).squeeze(-1)
            scores[rows] = self.reward.score(states[2 * n :], batch.lengths[2 * n :])
            mask[rows, :r] = batch.response_mask[:n].float()
        for row, row_logprobs in enumerate(logprobs):
            old[row, : len(row_logprobs)] = torch.tensor(row_logprobs, device=device)
        return Rollout(examples, texts, finished, mask.bool(), old, reference * mask, values * mask, scores)

    def targets(self, rollout: Rollout) -> Targets:
        """Whitened advantages and returns."""
        config = self.config
        ended = torch.tensor(rollout.finished, device=rollout.scores.device)
        scores = rollout.scores.clamp(-config.score_clip, config.score_clip) - config.missing_eos_penalty * ~ended
        rewards = token_rewards(scores, rollout.old, rollout.reference, rollout.mask, config.beta)
        found = advantages_and_returns(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
        return Targets(masked_whiten(found[0], rollout.mask), found[1])

    def update(self, rollout: Rollout, targets: Targets) -> dict[str, float]:
        """Epochs of minibatch updates; means of what they report. Raises RatioOff before the very first update."""
        config = self.config
        reports: list[dict[str, float]] = []
        order = random.Random(config.seed * 1_000_003 + self.done)
        for _ in range(config.epochs):
            rows = order.sample(range(len(rollout.examples)), len(rollout.examples))
            for minibatch in chunks(rows, -(-len(rows) // config.minibatches)):
                self.optimizer.zero_grad(set_to_none=True)
                report = self.gradients(rollout, targets, list(minibatch))
                if self.done == 0 and not reports:
                    check_first(report["val/ratio_off"], rollout, self.roles.base)
                for role, parameters in self.trained.items():
                    norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
                    report[f"{role}/grad_norm"] = float(norm)
                if all(torch.isfinite(torch.tensor(list(report.values())))):
                    self.optimizer.step()
                reports.append(report)
        return {name: sum(report[name] for report in reports) / len(reports) for name in reports[0]}

    def gradients(self, rollout: Rollout, targets: Targets, minibatch: list[int]) -> dict[str, float]:
        """Add up the minibatch's gradients, micro-batch by micro-batch, each token counting the same."""
        config, roles = self.config, self.roles
        tokens = rollout.mask[minibatch].sum()
        sums: dict[str, Tensor] = {}
        for group in micro_batches([len(rollout.examples[i]) for i in minibatch], config.token_budget // 2):
            rows = [minibatch[i] for i in group]
            n = len(rows)
            batch = roles.collate([rollout.examples[i] for i in rows] * 2)
            r, mask = batch.response_ids.shape[1], batch.response_mask[:n]
            old, advantages, returns, before = (
                x[rows, :r] for x in (rollout.old, targets.advantages, targets.returns, rollout.values)
            )
            with roles.routed(("policy", slice(0, n)), ("value", slice(n, 2 * n))):
                states = roles.response_states(batch)[:, :-1]
                logprobs, spread = self.logprobs(states[:n], batch.response_ids[:n])
                values = roles.heads["value"](states[n:].float()).squeeze(-1)
                surrogate, clipped = policy_loss(logprobs, old, advantages, config.clip)
                squared, kept = value_loss(values, before, returns, config.value_clip)
                loss = ((surrogate + squared) * mask).sum() / tokens
                loss.backward()  # type: ignore[no-untyped-call]
            ratio = (logprobs - old).detach().exp()
            parts = {
                "loss/policy_avg": surrogate, "loss/value_avg": squared, "policy/clipfrac_avg": clipped,
                "val/clipfrac_avg": kept, "policy/approxkl_avg": (logprobs - old) ** 2 / 2,
                "policy/entropy_avg": spread, "val/ratio": ratio, "val/ratio_off": (ratio - 1).abs(),
            }  # fmt: skip
            for name, values_ in parts.items():
                sums[name] = (
                    sums.get(name, torch.zeros_like(tokens, dtype=torch.float32)) + (values_.detach() * mask).sum()
                )
        return {name: float(total / tokens) for name, total in sums.items()}

    def logprobs(self, states: Tensor, response_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, R) log-probabilities of the response tokens at the rollouts' temperature, and the entropies there."""
        logits = self.roles.logits(states) / self.config.temperature
        drawn = torch.log_softmax(logits, -1).gather(-1, response_ids[..., None]).squeeze(-1)
        return drawn, entropy(logits.detach())

    def describe(self, rollout: Rollout, targets: Targets) -> dict[str, float]:
        """The rollout in numbers, by TRL's names where it has one; KL is a sum over an answer's tokens, in nats."""
        mask, config = rollout.mask, self.config
        kl = (kl_k1(rollout.old, rollout.reference) * mask).sum(1)
        k3 = (kl_k3(rollout.old, rollout.reference) * mask).sum(1)
        lengths = mask.sum(1).float()
        return {
            "objective/kl": float(kl.mean()),
            "objective/kl_k3": float(k3.mean()),
            "objective/entropy": float(-rollout.old.sum(1).mean()),
            "objective/non_score_reward": float(-config.beta * kl.mean()),
            "objective/scores": float(rollout.scores.mean()),
            "objective/scores_std": float(rollout.scores.std(correction=0)),
            "objective/rlhf_reward": float((rollout.scores - config.beta * kl).mean()),
            "val/num_eos_tokens": float(sum(rollout.finished)),
            "val/eos_rate": sum(rollout.finished) / len(rollout.finished),
            "val/response_length": float(lengths.mean()),
            "val/empty_rate": sum(not text for text in rollout.texts) / len(rollout.texts),
            "val/explained_variance": explained_variance(rollout.values, targets.returns, mask),
            "val/returns_mean": float(masked_mean(targets.returns, mask)),
            "lr": self.optimizer.param_groups[0]["lr"],
            "beta": config.beta,
        }


def endless(prompts: list[Prompt], size: int, seed: int) -> Iterator[list[Prompt]]:
    """Batches of `size` prompts, all prompts in a new order at each pass."""
    order = random.Random(seed)
    stream = itertools.chain.from_iterable(order.sample(prompts, len(prompts)) for _ in itertools.count())
    while True:
        yield list(itertools.islice(stream, size))
