"""One PPO run: its roles, its counters, and the order of an iteration, which is that of Ziegler et al. 2019."""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from preferences.records import Policy, Prompt
from preferences.run_files import CHECKPOINTS
from trainer import generators
from trainer.batches import first_batch
from trainer.budget import Budget, sampling_budget
from trainer.checkpoints import BadCheckpoint, Checkpoints, State
from trainer.experience import Answers, Rollout, Targets, check_first, drawn_answers, tolerance
from trainer.far_rollout import FarRollouts, engine_report, weighed
from trainer.judges import Judges
from trainer.kl_control import KlControl
from trainer.learner import Learner
from trainer.metrics import cost, describe
from trainer.models import Base
from trainer.moments import RunningMoments
from trainer.optimizers import same_groups
from trainer.policies import load_policy
from trainer.ppo_math import advantages_and_returns, kl_k1, masked_mean, masked_whiten, rloo_advantages, token_rewards
from trainer.recheck import checked_reward
from trainer.rewards import RewardFunction, summed
from trainer.roles import Roles, lora_config
from trainer.rollout import Sampling
from trainer.room import ppo_budgets
from trainer.runs import Run
from trainer.scoring import Scorer
from trainer.screen import Screen
from trainer.world import ALONE, World

if TYPE_CHECKING:
    from trainer.ppo import Ppo

SHOWN = 4  # prompts whose answers are looked at again and again

Metrics = dict[str, Any]


class PpoTrainer:
    """`done`: iterations so far; everything else follows from it, the options and the state of the learner.

    The processes of `world` share the prompts of a rollout and the rows of an update; each holds the whole rollout and the
    sum of the gradients, so that all of them decide alike.
    """

    def __init__(
        self, config: "Ppo", base: Base, start: Policy, run: Run, reference: Policy | None = None, world: World = ALONE
    ) -> None:
        """`reference`: by default the start."""
        self.config, self.run, self.world, self.done = config, run, world, 0
        generators.seed(config.seed)
        budgets = ppo_budgets(config, base)
        self.at_once = sampling_budget(budgets.sampled, world)
        self.functions = [RewardFunction.load(name) for name in config.functions]
        self.roles = roles = Roles(base, world)
        begun = load_policy(roles, start)
        if begun == "base":
            roles.add("policy", lora_config(base, config.rank, 2 * config.rank))
        else:
            roles.copy(begun, "policy")
        self.reference = load_policy(roles, reference or start)
        self.is_copy = self.reference == begun
        self.reward: Scorer | None = None
        if config.reward:
            self.reward = checked_reward(roles, config.reward, budgets.passes, config.pessimism)
        self.value_head = self.add_value()
        own_value = "value" if self.value_head == "value" else None
        self.judges = Judges(roles, self.reference, own_value, self.reward, config.temperature)
        self.trained = list(dict.fromkeys(("policy", self.value_head or "policy")))
        roles.train_only(*self.trained, top_layers=config.top_layers)
        self.budget = Budget(budgets.passes, roles.together, world)
        rates = {"policy": config.lr, **({"value": config.value_lr} if self.value_head else {})}
        self.learner = Learner(self.judges, self.value_head, config.update_rule(), rates, self.budget)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.learner.optimizer, lambda i: max(0.0, 1 - i / config.iterations)
        )
        self.kl, self.moments = KlControl(config.beta, config.kl_target, config.horizon()), RunningMoments()
        self.checkpoints = Checkpoints(run.folder / CHECKPOINTS, config.keep)
        self.far = FarRollouts.of(config, roles, run) if config.endpoint else None
        self.before: list[str] = []  # the reference's answers to the prompts that are looked at
        self.recompute = False  # log-probabilities of the rollouts, because those of the generation are not exact here
        world.align([p for role in sorted(roles.names | set(roles.heads)) for p in roles.parameters(role)])

    def add_value(self) -> str | None:
        """The role whose head values states: one of its own (the reward's copy), the policy, or none for RLOO."""
        config, roles = self.config, self.roles
        if config.advantage == "rloo":
            return None
        if config.value == "trunk":
            roles.add_head("policy")
            return "policy"
        if self.reward:
            self.reward.copy_as_value("value")
        else:
            roles.copy("policy", "value")
            roles.add_head("value")
        return "value"

    @property
    def trunk_head(self) -> str | None:
        """Whose head values the policy's own states, if one does."""
        return "policy" if self.value_head == "policy" else None

    def train(self, prompts: list[Prompt]) -> Metrics:
        """All iterations; the last one's metrics."""
        config = self.config
        batches = itertools.islice(endless(prompts, config.episodes // config.samples, config.seed), self.done, None)
        metrics = self.world.told(self.run.last_metrics) if self.done else {}
        with Screen(self.run, config, self.done) if self.world.main else nullcontext() as screen:
            while self.done < config.iterations:
                metrics = self.step(next(batches))
                self.done += 1
                due = self.done == config.iterations or self.done % config.show_every == 0
                looks = self.look(prompts) if due else []
                if screen:
                    self.keep(screen, metrics, looks)
        return metrics

    def keep(self, screen: Screen, metrics: Metrics, looks: list[dict[str, Any]]) -> None:
        """Show an iteration, and write what has to be kept of it; the main process does."""
        if self.done in self.config.snapshot_steps():
            self.roles.save("policy", self.run.snapshot(self.done), {"kind": "ppo", "iterations": self.done})
        screen.show(self.done, metrics)
        if looks:
            screen.samples(self.done, looks)
        if self.done == self.config.iterations or self.done % self.config.save_every == 0:
            self.checkpoints.save(self.done, self.state_dict())

    def step(self, prompts: Sequence[Prompt]) -> Metrics:
        """One iteration: sample, judge, estimate advantages, update; its metrics, which are also logged."""
        clock = [time.perf_counter()]
        answers = self.sample(prompts)  # 1. answers with the log-probabilities they were drawn with
        clock.append(time.perf_counter())
        rollout, parts = self.judge(answers)  # 2. reference, values and scores in one routed pass
        clock.append(time.perf_counter())
        targets = self.targets(rollout)  # 3. rewards, advantages (whitened over the whole rollout), returns
        seed = self.config.seed * 1_000_003 + self.done
        updates = self.learner.update(rollout, targets, seed, lambda ratio: self.check(ratio, rollout))  # 4.
        clock.append(time.perf_counter())
        metrics = {**describe(rollout, targets, self.kl.beta), **parts, **updates, **self.course()}
        metrics |= cost(clock, answers.examples, updates["epochs"], self.roles.base.device)
        metrics["val/halved_budgets"] = float(self.budget.halvings + self.at_once.halvings)
        metrics |= engine_report(answers) if answers.weights is not None else {}
        self.kl.update(metrics["objective/kl"], len(answers.examples))  # 5. the penalty's weight, and linear decay
        self.schedule.step()
        self.run.log({"step": self.done + 1, "steps": self.config.iterations, **metrics})
        return metrics

    def sample(self, prompts: Sequence[Prompt]) -> Answers:
        """`samples` answers a prompt from the policy."""
        many = [prompt for prompt in prompts for _ in range(self.config.samples)]
        if self.far:
            answers, engine = self.far.sample(many, self.done, self.world)
            return weighed(self.replayed(answers), engine, self.config.weight_clip)
        return self.exact(self.draw(many, (self.config.seed, 1, self.done)))

    def draw(self, prompts: Sequence[Prompt], key: tuple[int, ...], role: str = "policy") -> Answers:
        """An answer a prompt from the policy, or another role; `key` and its number decide the random numbers of each."""
        sampling = Sampling(self.config.temperature, 1.0, self.config.max_new_tokens)
        head = self.trunk_head if role == "policy" else None
        return drawn_answers(self.roles, role, prompts, key, sampling, self.at_once, head=head)

    def exact(self, answers: Answers) -> Answers:
        """The answers with log-probabilities that the training pass reproduces.

        One pass over rows of the first rollout, of all lengths, shows whether those of the generation are; if not, a pass
        like that of training finds them, from then on.
        """
        if self.done == 0 and not self.recompute:
            rows = first_batch(answers.examples, self.budget.tokens)
            mask = answers.mask[rows]
            again, _ = self.judges.replay("policy", None, [answers.examples[i] for i in rows], self.budget)
            width = again.shape[1]
            off = masked_mean(
                ((again - answers.old[rows, :width]) * mask[:, :width]).exp().sub(1).abs(), mask[:, :width]
            )
            self.recompute = any(self.world.each(not float(off) <= tolerance(self.roles.base)))
        return self.replayed(answers) if self.recompute else answers

    def replayed(self, answers: Answers) -> Answers:
        """The answers with log-probabilities and values from a pass like that of training."""
        old, values = self.judges.replay("policy", self.trunk_head, answers.examples, self.budget)
        return replace(answers, old=old, values=values)

    def judge(self, answers: Answers) -> tuple[Rollout, Metrics]:
        """The rollout with its whole score, and the means of the score's parts."""
        rollout = self.judges.judge(answers, self.budget)
        weight, said = self.config.reward_weight, (answers.prompts, answers.texts)
        total, found = summed(rollout.scores, weight, self.functions, *said, self.world)
        parts = {f"reward/{name}": float(values.mean()) for name, values in found.items()}
        if self.reward:
            parts["reward/learned"] = float(rollout.scores.mean())
            if rollout.spread is not None and len(self.reward.blocks) > 1:
                parts["reward/spread"] = float(rollout.spread.mean())
        return replace(rollout, scores=total), parts

    def targets(self, rollout: Rollout) -> Targets:
        """Whitened advantages, and returns."""
        config, answers = self.config, rollout.answers
        scores = rollout.scores
        if config.normalise:
            self.moments.update(scores)
            scores = self.moments.normalise(scores)
        ended = torch.tensor(answers.finished, device=scores.device)
        scores = scores.clamp(-config.score_clip, config.score_clip)
        whole = scores - config.missing_eos_penalty * ~ended
        rewards = token_rewards(whole, answers.old, rollout.reference, answers.mask, self.kl.beta)
        if config.advantage == "rloo":
            advantages = rloo_advantages(rewards, answers.mask, config.samples)
            returns = torch.zeros_like(advantages)
        else:
            advantages, returns = advantages_and_returns(
                rewards, answers.values, answers.mask, config.gamma, config.gae_lambda()
            )
        whitened = masked_whiten(advantages, answers.mask)
        weighed = whitened if answers.weights is None else whitened * answers.weights
        return Targets(weighed, returns, scores, advantages)

    def check(self, ratio: float, rollout: Rollout) -> None:
        """Before the very first update. Raises RatioOff."""
        if self.done == 0:
            check_first(ratio, rollout, self.roles.base, self.is_copy)

    def course(self) -> Metrics:
        """Where the run is: answers so far, this iteration's learning rates, and the KL that is steered for, if any is."""
        rates = dict(zip(self.learner.trained, self.learner.optimizer.param_groups, strict=True))
        return {
            "episode": (self.done + 1) * self.config.episodes,
            "lr": rates["policy"]["lr"],
            **({"value/lr": rates["value"]["lr"]} if "value" in rates else {}),
            **({"kl_target": self.kl.target} if self.kl.target is not None else {}),
        }

    def look(self, prompts: list[Prompt]) -> list[dict[str, Any]]:
        """The policy's answers to the same few prompts, beside those of the reference, all drawn with the same random numbers
        every time."""
        config = self.config
        chosen = random.Random(config.seed).sample(prompts, min(SHOWN, len(prompts)))
        self.before = self.before or self.draw(chosen, (config.seed, 2), self.reference).texts
        answers = self.draw(chosen, (config.seed, 2))
        if self.recompute:
            answers = self.replayed(answers)
        rollout, _ = self.judge(answers)
        kl = (kl_k1(answers.old, rollout.reference) * answers.mask).sum(1)
        return [
            {"prompt": said[-1]["content"], "reference": before, "response": text, "score": score, "kl": nats}
            for said, before, text, score, nats in zip(
                answers.prompts, self.before, answers.texts, rollout.scores.tolist(), kl.tolist(), strict=True
            )
        ]

    # -- going on later ----------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Everything that the next iteration depends on. Our own random numbers come from keys, so that `done` is their
        state; the generators are kept for what else draws, such as rewards in Python."""
        return {
            "done": self.done,
            "roles": {role: [p.detach() for p in self.roles.parameters(role)] for role in self.trained},
            "optimizer": self.learner.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "kl": self.kl.state_dict(),
            "moments": self.moments.state_dict(),
            "recompute": self.recompute,
            "refills": self.roles.refills,
            "budget": {
                "tokens": self.budget.tokens,
                "halvings": self.budget.halvings,
                "sampled": self.at_once.tokens,
                "sampled_halvings": self.at_once.halvings,
            },
            "generators": generators.state_dict(self.roles.base.device),
        }

    def resume(self) -> None:
        """Take up the newest checkpoint, or begin again if there is none; what was logged after it is dropped.

        The main process reads it for all, however many there were when it was written. Raises BadCheckpoint if it is of a
        version that trained otherwise.
        """
        state = self.world.told(self.checkpoints.newest)
        if state and not same_groups(self.learner.optimizer, state["optimizer"]):
            raise BadCheckpoint(
                f"{self.run.folder} was begun by a version that gave the whole policy --value-lr under --value trunk, so it "
                "cannot go on as it was; begin it again under another --out."
            )
        self.run.truncate(state["done"] if state else 0)
        self.run.restart()
        if state is None:
            return
        self.done, self.recompute, self.roles.refills = state["done"], state["recompute"], state.get("refills")
        self.put_back(state)
        self.learner.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.kl.load_state_dict(state["kl"])
        self.moments.load_state_dict(state["moments"])
        budget = state["budget"]
        self.budget.tokens, self.budget.halvings = budget["tokens"], budget["halvings"]
        self.at_once.tokens = budget.get("sampled", self.at_once.tokens)
        self.at_once.halvings = budget.get("sampled_halvings", 0)
        if "generators" in state:
            generators.load_state_dict(state["generators"], self.roles.base.device)
        else:  # written by an earlier version
            torch.set_rng_state(state["torch_rng"])

    @torch.no_grad()
    def put_back(self, state: State) -> None:
        """The weights of a checkpoint in their roles."""
        for role, tensors in state["roles"].items():
            for parameter, saved in zip(self.roles.parameters(role), tensors, strict=True):
                parameter.copy_(saved)

    def last_good(self) -> int:
        """Put the newest checkpoint's weights in their roles; of how many iterations it is, 0 if there is none."""
        state = self.checkpoints.newest()
        if state is None:
            return 0
        self.put_back(state)
        return int(state["done"])


def endless(prompts: list[Prompt], size: int, seed: int) -> Iterator[list[Prompt]]:
    """Batches of `size` prompts, all prompts in a new order at each pass."""
    order = random.Random(seed)
    stream = itertools.chain.from_iterable(order.sample(prompts, len(prompts)) for _ in itertools.count())
    while True:
        yield list(itertools.islice(stream, size))
