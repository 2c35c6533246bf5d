"""PPO's updates: which gradients, whether they can be trusted, and one optimizer for policy and value."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from trainer.batches import Example, filled, same_prompt
from trainer.budget import Budget, where_it_fits
from trainer.experience import Rollout, Targets
from trainer.judges import Judges
from trainer.optimizers import OptimizerName, optimizer_of
from trainer.ppo_math import policy_loss, value_loss
from trainer.roles import Roles
from trainer.sharding import company
from trainer.sharing import SharedPrefix
from trainer.trunk import Trunk

RATIO_LIMIT = 10.0  # a mean ratio beyond this says that the policy left its rollout: the update is skipped

Report = dict[str, float]


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """The part of PPO's options that says how it updates; the field docstrings of `Ppo` explain each."""

    epochs: int
    minibatches: int
    clip: float
    dual_clip: float | None
    value_clip: float
    value_weight: float
    max_grad_norm: float
    stop_kl: float | None
    checkpointing: bool
    optimizer: OptimizerName
    top_layers: int | None


class Learner:
    """Trains "policy" and, if there is one, "value": a head on the policy's own states, or a role of its own.

    `rates`: the learning rate of each of the two. Each is a group of the optimizer, and has its gradients scaled down alone.
    """

    def __init__(
        self, judges: Judges, value_head: str | None, rule: UpdateRule, rates: dict[str, float], budget: Budget
    ) -> None:
        self.judges, self.value_head, self.rule, self.budget = judges, value_head, rule, budget
        self.roles: Roles = judges.roles
        self.blocks = ["policy", *([judges.value] if judges.value else [])]
        whole = not any(block in self.roles.exits for block in self.blocks)
        trunk = Trunk(self.roles, rule.top_layers) if rule.top_layers and rule.epochs > 1 and whole else None
        self.trunk = trunk if trunk and trunk.works else None  # for one epoch alone, nothing would be used again
        owned = self.owned()
        self.trained = {name: [p for p in owned[name] if p.requires_grad] for name in rates}
        self.parameters: list[nn.Parameter] = [p for found in self.trained.values() for p in found]
        groups = [{"params": found, "lr": rates[name]} for name, found in self.trained.items()]
        self.optimizer = optimizer_of(rule.optimizer, groups, eps=1e-5)

    def owned(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of "policy" and of "value"; of a value on the policy's own states, its head alone."""
        value: list[nn.Parameter] = []
        if self.value_head == "policy":
            value = list(self.roles.heads["policy"].parameters())
        elif self.value_head:
            value = self.roles.parameters(self.value_head)
        taken = {id(p) for p in value}
        return {"policy": [p for p in self.roles.parameters("policy") if id(p) not in taken], "value": value}

    def update(self, rollout: Rollout, targets: Targets, seed: int, check: Callable[[float], None]) -> Report:
        """Epochs of minibatch updates, and what they report (`summary`). `check` hears the first mean |ratio - 1|, before
        any step.

        An update that is not finite, or whose ratio is beyond belief, is skipped and counted. With `stop_kl` the epochs end
        as soon as the policy has moved that far.
        """
        reports: list[Report] = []
        rows = 0
        if self.trunk:
            self.trunk.forget()
        for minibatch in self.minibatches(rollout, seed):
            self.optimizer.zero_grad(set_to_none=True)
            report = self.gradients(rollout, targets, minibatch)
            if not reports:
                check(report["val/ratio_off"])
            for name, parameters in self.trained.items():
                norm = nn.utils.clip_grad_norm_(parameters, self.rule.max_grad_norm)
                report[f"{name}/grad_norm"] = float(norm)
            if trusted(report):
                self.optimizer.step()
            reports.append(report)
            rows += len(minibatch)
            if self.rule.stop_kl is not None and report["policy/approxkl_avg"] > self.rule.stop_kl:
                break
        return {**summary(reports), "epochs": rows / len(rollout.answers.examples)}

    def minibatches(self, rollout: Rollout, seed: int) -> list[list[int]]:
        """Rows of every update of an iteration; answers to one prompt stay together, so that they share its computation."""
        order = random.Random(seed)
        groups = same_prompt(rollout.answers.examples)
        count = min(self.rule.minibatches, len(groups))
        found = []
        for _ in range(self.rule.epochs):
            mixed = order.sample(groups, len(groups))
            found += [[i for group in part for i in group] for part in (mixed[n::count] for n in range(count))]
        return found

    def gradients(self, rollout: Rollout, targets: Targets, minibatch: list[int]) -> Report:
        """Add up the minibatch's gradients, micro-batch by micro-batch, each token of the minibatch counting the same.

        If there is no memory to send them through what all prompts begin with, every row reads that itself.
        """
        inputs = self.inputs([rollout.answers.examples[i] for i in minibatch])
        rest, shared = self.shared(inputs)
        sums, largest, read = self.passes(rollout, targets, minibatch, rest, shared)
        if shared:
            through = where_it_fits(partial(shared.gradients, self.parameters), self.roles.world)
            if through is None:
                shared = None
                self.optimizer.zero_grad(set_to_none=True)
                sums, largest, read = self.passes(rollout, targets, minibatch, inputs, None)
            else:
                self.add(through)
        self.roles.world.add_gradients(self.parameters)
        tokens = rollout.answers.mask[minibatch].sum()
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad /= tokens
        means = {name: float(total / tokens.to(total.device)) for name, total in self.roles.world.summed(sums).items()}
        return {**means, **self.extremes(means, largest, read)}

    def passes(
        self,
        rollout: Rollout,
        targets: Targets,
        minibatch: list[int],
        inputs: list[Example],
        shared: SharedPrefix | None,
    ) -> tuple[dict[str, Tensor], list[Tensor], list[tuple[int, int]]]:
        """Add up the gradients of this process's micro-batches. Sums over their tokens of what there is to report;
        of each, the largest ratio, and the tokens that it read without and with padding."""
        sums: dict[str, Tensor] = {}
        largest: list[Tensor] = []
        read: list[tuple[int, int]] = []
        leaves = shared.leaves if shared else []

        def work(part: list[int]) -> None:
            with self.roles.routed(*self.blocks):
                states = self.states([inputs[i] for i in part], [minibatch[i] for i in part], shared)
                loss, parts, mask = self.losses(rollout, targets, [minibatch[i] for i in part], states)
                # Of the sum, not of the mean: in 16 bits the gradients of a mean over thousands of tokens would vanish.
                found = torch.autograd.grad(loss, [*self.parameters, *leaves], allow_unused=True)
            with torch.no_grad():
                self.add(found[: len(self.parameters)])
                if shared:
                    shared.add(found[len(self.parameters) :])
                for name, x in parts.items():
                    sums[name] = sums.get(name, 0) + (x.detach() * mask).sum()
                largest.append((parts["val/ratio"] * mask).max())
                read.append(filled([inputs[i] for i in part], self.budget.share))

        with self.roles.checkpointed(self.rule.checkpointing), company(self.roles, gradients=True):
            self.budget.each(inputs, len(self.blocks), work, gradients=True)
        return sums, largest, read

    def extremes(self, means: Report, largest: list[Tensor], read: list[tuple[int, int]]) -> Report:
        """Of all processes: the largest ratio, the ratios' variance, and the part of what was read that was padding."""
        own = float(torch.stack(largest).max()) if largest else 0.0
        found = self.roles.world.each((own, read))
        ratios = torch.tensor([ratio for ratio, _ in found])  # whose maximum, unlike Python's, is NaN if one is
        real, padded = (sum(counts) for counts in zip(*(one for _, part in found for one in part), strict=True))
        return {
            "val/ratio_max": float(ratios.max()),
            # So far it is around 1, where ratios are, so that hardly anything cancels here.
            "val/ratio_var": max(0.0, means["val/ratio_var"] - (means["val/ratio"] - 1) ** 2),
            "val/padding": 1 - real / padded,
        }

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """To those of the parameters."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient.contiguous() if parameter.grad is None else parameter.grad.add_(gradient)

    def inputs(self, examples: list[Example]) -> list[Example]:
        """What the base reads: no answer's last token, which predicts nothing."""
        if self.trunk or min(len(example.response) for example in examples) == 1:
            return examples
        return [Example(example.prompt, example.response[:-1]) for example in examples]

    def shared(self, examples: list[Example]) -> tuple[list[Example], SharedPrefix | None]:
        """The examples without what all their prompts begin with, and this, which is read once, if that can be done."""
        if self.rule.checkpointing or self.rule.top_layers:  # with these a model keeps no keys, or none with gradients
            return examples, None
        rest, prefix = self.judges.without_prefix(examples, self.blocks)
        return rest, SharedPrefix(prefix) if prefix else None

    def losses(
        self, rollout: Rollout, targets: Targets, rows: list[int], states: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The summed loss of some answers, what to report of each token (n, R), and the mask (n, R), True for a token.

        `states`: of the policy and of the value, see `states`.
        """
        answers, judges = rollout.answers, self.judges
        one = self.roles.collate([answers.examples[i] for i in rows])
        r, mask = one.response_ids.shape[1], one.response_mask
        old, before = answers.old[rows, :r], answers.values[rows, :r]
        logprobs, spread = judges.logprobs(states[0], one)
        surrogate, clipped = policy_loss(
            logprobs, old, targets.advantages[rows, :r], self.rule.clip, self.rule.dual_clip
        )
        ratio = (logprobs - old).detach().exp()
        loss = (surrogate * mask).sum()
        parts: dict[str, Any] = {
            "loss/policy_avg": surrogate, "policy/clipfrac_avg": clipped.float(),
            "policy/approxkl_avg": (logprobs - old) ** 2 / 2, "policy/entropy_avg": spread,
            "val/ratio": ratio, "val/ratio_off": (ratio - 1).abs(), "val/ratio_var": (ratio - 1) ** 2,
        }  # fmt: skip
        if self.value_head:
            values = judges.values(self.value_head, states[1], one)
            squared, kept = value_loss(values, before, targets.returns[rows, :r], self.rule.value_clip)
            loss = loss + self.rule.value_weight * (squared * mask).sum()
            parts |= {"loss/value_avg": squared, "val/clipfrac_avg": kept.float()}
        return loss, parts, mask

    def states(self, inputs: list[Example], rows: list[int], shared: SharedPrefix | None) -> tuple[Tensor, Tensor]:
        """The policy's states (n, at least R, hidden) and those that the value head reads, from one pass."""
        batch = self.roles.collate(inputs).repeat(len(self.blocks))
        if self.trunk:
            states = self.trunk.response_states(batch, self.blocks, inputs, rows)
        else:
            states = self.roles.response_states(batch, shared.prefix if shared else None)
        parts = states.chunk(len(self.blocks))
        return parts[0], parts[-1]


def trusted(report: Report) -> bool:
    """Whether an update that reports this may be made."""
    return all(map(math.isfinite, report.values())) and report["val/ratio"] <= RATIO_LIMIT


def summary(reports: Sequence[Report]) -> Report:
    """What an iteration's updates report, all of it finite: means over those that were made, nothing of them where none was;
    and of all, the skipped ones included, the largest ratio, the first one's error, the padding, and how many they were."""
    made = [report for report in reports if trusted(report)]
    means = {name: fmean(report[name] for report in made) for name in made[0]} if made else {}
    of_all = {
        "val/ratio_max": max(
            (x for report in reports if math.isfinite(x := report["val/ratio_max"])), default=math.nan
        ),
        "val/ratio_off_first": reports[0]["val/ratio_off"],
        "val/padding": fmean(report["val/padding"] for report in reports),
        "updates": float(len(reports)),
        "skipped_updates": float(len(reports) - len(made)),
    }
    return means | {name: x for name, x in of_all.items() if math.isfinite(x)}
