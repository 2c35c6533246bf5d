"""The steps of each stage, executed on a base without data for the memory that they take.

What runs is the stages' own code: sampling's decoding, the reward trainer's gradients, PPO's judges and learner. Only what
data decides is left out: which rows end first, whether an update is finite.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.batches import Example, chunks, widths
from trainer.budget import LIGHTER, Budget
from trainer.decoding import start
from trainer.elements import Element
from trainer.ensemble import Ensemble, member_role
from trainer.experience import Answers, Rollout, Targets
from trainer.fakes import BEGINNING, shares
from trainer.judges import Judges
from trainer.learner import Learner
from trainer.models import Base
from trainer.ppo import Ppo
from trainer.ranked import Ranked
from trainer.reward import Reward
from trainer.reward_trainer import RewardTrainer
from trainer.roles import Roles, lora_config
from trainer.rollout import Sampling, draw
from trainer.runs import Run
from trainer.scoring import RewardModel, Scorer
from trainer.tally import ADAPTERS, CACHE, OPTIMIZER, Peak, Tally
from trainer.ways import Ways

NOWHERE = Path("nowhere")  # of runs that write nothing
ENDLESS = 10**12  # tokens of a budget that never divides a batch


@dataclass(frozen=True, slots=True)
class Shape:
    """Tokens of each prompt and of each answer, answers to a prompt, and with how many tokens all prompts begin."""

    prompt: int
    response: int
    samples: int
    common: int = 0

    @property
    def compared(self) -> int:
        """Answers in a comparison."""
        return max(2, self.samples)


class Step(Protocol):
    """Something that a stage does with `units` at a time."""

    def phases(self, units: int) -> Iterator[None]:
        """Do it; each yield ends a phase whose peak is looked at apart."""


class Stand:
    """A base, and what is counted of it. `answers_a_unit`: answers to a prompt that stay together in a micro-batch."""

    def __init__(self, base: Base, tally: Tally, shape: Shape, ways: Ways, gpu: bool) -> None:
        self.base, self.tally, self.shape, self.ways, self.gpu = base, tally, shape, ways, gpu
        self.shares = shares(base)
        self.answers_a_unit = shape.samples if self.shares or base.is_encoder_decoder else 1
        self.found: list[Peak] = []

    def peaks(self, step: Step, units: int) -> list[Peak]:
        """The most that lives in each phase of the step with so many units."""
        gc.collect()  # what is unreachable already is no part of this step
        self.found.clear()
        self.tally.restart()
        hooks = [layer.register_forward_hook(self.watch) for layer in lowest_layers(self.base.model)]
        for _ in step.phases(units):
            self.end_phase()
        for hook in hooks:
            hook.remove()
        return list(self.found)

    def end_phase(self) -> None:
        """Look apart at what comes from here on."""
        self.found.append(self.tally.peak_since())
        self.tally.restart()

    def watch(self, layer: nn.Module, args: Any, output: Any) -> None:  # noqa: ARG002
        """Have the backward pass of a lowest layer begin a phase: with many layers, the peak may move there."""
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:
            states.register_hook(lambda _: self.end_phase())

    def peak(self, step: Step, units: int) -> Peak:
        """The most that lives while the step runs with so many units."""
        return max(self.peaks(step, units), key=lambda peak: peak.bytes)

    def prompts(self, count: int) -> list[list[int]]:
        """Prompts that part behind their common beginning."""
        vocabulary, common = self.tally.vocabulary, self.shape.common
        own = self.shape.prompt - common
        return [[BEGINNING] * common + [2 + i % (vocabulary - 2)] + [2] * (own - 1) for i in range(count)]

    def row(self, gradients: bool) -> int:
        """Tokens of PPO's longest row; in an update without what all rows begin with, where that is read once for all of them
        (without gradients, the copies of its keys and values weigh as much as the rest)."""
        alone = not gradients or self.ways.checkpointing or self.ways.top_layers
        apart = self.shape.common if self.shares and not alone else 0
        return max(widths(self.examples(self.answers_a_unit), self.answers_a_unit > 1)) - apart

    def examples(self, answers: int, a_prompt: int | None = None) -> list[Example]:
        """Answers of full length, so many to each prompt (default `samples`)."""
        each = a_prompt or self.shape.samples
        prompts = self.prompts(-(-answers // each))
        return [Example(prompts[i // each], [2] * self.shape.response) for i in range(answers)]

    def optimizer(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        """Have its states made, and leave gradients, as in the middle of a run's second update."""
        for group in optimizer.param_groups:
            group["foreach"] = self.gpu  # torch's own choice there
        with self.tally.part(OPTIMIZER):
            self.gradients(parameters)
            optimizer.step()

    def gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Those of the micro-batches before."""
        with self.tally.part(OPTIMIZER):
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)


def lowest_layers(model: nn.Module) -> list[nn.Module]:
    """The first layer of every stack."""
    stacks = (module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module))
    return [stack[0] for stack in stacks if isinstance(stack[0], GradientCheckpointingLayer)]


class Decode:
    """A batch of answers from its first token to its last."""

    def __init__(self, stand: Stand, roles: Roles, role: str) -> None:
        self.stand, self.roles, self.role = stand, roles, role

    @torch.no_grad()
    def phases(self, units: int) -> Iterator[None]:
        """The first step and the last one; between them the cache only grows."""
        stand, shape = self.stand, self.stand.shape
        prompts = [example.prompt for example in stand.examples(units)]
        uniforms, sampling = torch.zeros(units), Sampling(0.8, 1.0, shape.response)
        with self.roles.routed(self.role), self.roles.folded():
            steps: Any = start(self.roles.base, prompts)
            tokens, _ = draw(self.roles.logits(steps.states(None)), uniforms, sampling)
            yield
            stand.tally.move(cached(steps.cache), CACHE)
            if shape.response > 2:
                with stand.tally.part(CACHE):
                    lengthen(steps, shape.response - 2)
            if shape.response > 1:
                draw(self.roles.logits(steps.states(tokens)), uniforms, sampling)
            yield


def layers_of(cache: Any) -> list[Any]:
    """Those that grow."""
    return list(getattr(cache, "self_attention_cache", cache).layers)


def cached(cache: Any) -> list[Tensor]:
    """Every tensor of a cache."""
    layers = [*layers_of(cache), *getattr(getattr(cache, "cross_attention_cache", None), "layers", [])]
    return [x for layer in layers for x in (layer.keys, layer.values) if x is not None]


def lengthen(steps: Any, tokens: int) -> None:
    """The cache as if so many tokens had been decoded."""
    for layer in layers_of(steps.cache):
        rows, heads, _, width = layer.keys.shape
        layer.update(
            layer.keys.new_empty(rows, heads, tokens, width), layer.values.new_empty(rows, heads, tokens, width)
        )
    if hasattr(steps, "ids"):
        steps.mask = torch.cat([steps.mask, steps.mask.new_ones(len(steps.mask), tokens)], 1)


class Compare:
    """The reward's gradients on comparisons of `samples` answers; of an ensemble, those of its last member."""

    def __init__(self, stand: Stand) -> None:
        self.stand, ways, roles = stand, stand.ways, Roles(stand.base)
        config = Reward(
            out=NOWHERE, rank=ways.rank, checkpointing=ways.checkpointing, optimizer=ways.resident,
            token_budget=2 * ENDLESS,
        )  # fmt: skip
        self.trainers: list[RewardTrainer] = []  # those of the other members stay, with their optimizers
        for role in map(member_role, range(ways.members)):
            with stand.tally.part(ADAPTERS):
                self.trainers.append(trainer := RewardTrainer(config, roles, [], Run(NOWHERE), role))
                roles.train_only(role)
                self.parameters = roles.parameters(role)
                trainer.best = 0.0, [p.detach().clone() for p in self.parameters]  # that the validation keeps
            stand.optimizer(trainer.optimizer, self.parameters)

    def phases(self, units: int) -> Iterator[None]:
        each = self.stand.shape.compared
        pairs = [(i, j, 1.0) for i in range(each) for j in range(i)]
        groups = [list(group) for group in chunks(self.stand.examples(units * each, each), each)]
        trainer = self.trainers[-1]
        trainer.gradients([Element([Ranked("", group, [], pairs, [])], group, [list(range(each))]) for group in groups])
        yield
        nn.utils.clip_grad_norm_(self.parameters, trainer.config.max_grad_norm)
        trainer.optimizer.step()
        yield


class PpoStand:
    """The roles of a PPO run in its second update, as `PpoTrainer` makes them from an SFT policy and a reward model."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        base, ways, trunk = stand.base, stand.ways, stand.ways.value == "trunk"
        config = Ppo(
            out=NOWHERE, reward=NOWHERE, minibatches=1, checkpointing=ways.checkpointing, value=ways.value,
            optimizer=ways.resident, top_layers=ways.top_layers,
        )  # fmt: skip
        with stand.tally.part(ADAPTERS):
            self.roles = roles = Roles(base)
            roles.add("reference", lora_config(base, ways.rank, 2 * ways.rank))
            roles.copy("reference", "policy")
            reward = self.reward()
            if trunk:
                roles.add_head("policy")
            else:
                reward.copy_as_value("value")
        head = "policy" if trunk else "value"
        self.judges = Judges(roles, "reference", None if trunk else "value", reward, config.temperature)
        roles.train_only(*dict.fromkeys(("policy", head)), top_layers=ways.top_layers)
        self.budget = Budget(ENDLESS, roles.together)
        rates = dict.fromkeys(("policy", "value"), 1e-4)
        self.learner = Learner(self.judges, head, config.update_rule(), rates, self.budget)
        stand.optimizer(self.learner.optimizer, self.learner.parameters)

    def reward(self) -> Scorer:
        """One reward model, or an ensemble."""
        base, ways = self.stand.base, self.stand.ways
        members: list[RewardModel] = []
        for role in map(member_role, range(ways.members)):
            self.roles.add(role, lora_config(base, ways.rank, 2 * ways.rank))
            self.roles.add_head(role)
            members.append(RewardModel(self.roles, role, 0.0, 1.0, {}))
        return members[0] if len(members) == 1 else Ensemble(self.roles, tuple(members), {})

    def answers(self, units: int) -> Answers:
        """A row's worth each. Rows that are not shared are sorted by length, which parts the answers to a prompt."""
        each = self.stand.answers_a_unit
        examples = self.stand.examples(units * each, each)
        shape = len(examples), self.stand.shape.response
        old, values = (torch.zeros(shape) for _ in range(2))
        return Answers([], examples, [], [], torch.ones(shape, dtype=torch.bool), old, values)


class Judge:
    """Reference, value and reward on some answers."""

    def __init__(self, ppo: PpoStand) -> None:
        self.ppo = ppo

    def phases(self, units: int) -> Iterator[None]:
        stand, judges = self.ppo.stand, self.ppo.judges
        answers = self.ppo.answers(max(units, 2))  # two prompts at least have no more than their beginning in common
        blocks = 1 + (judges.value is not None) + stand.ways.members
        tokens = blocks * units * stand.row(gradients=False)
        judges.judge(answers, Budget(-(-tokens // LIGHTER), self.ppo.roles.together))
        yield


class Update:
    """PPO's gradients on some answers, after those of other ones, and the optimizer's step."""

    def __init__(self, ppo: PpoStand) -> None:
        self.ppo = ppo

    def phases(self, units: int) -> Iterator[None]:
        learner, answers = self.ppo.learner, self.ppo.answers(units)
        rollout = Rollout(answers, answers.old, torch.zeros(len(answers.examples)))
        targets = Targets(answers.old, answers.old, rollout.scores, answers.old)
        self.ppo.stand.gradients(learner.parameters)
        learner.gradients(rollout, targets, list(range(len(answers.examples))))
        yield
        for parameters in learner.trained.values():
            nn.utils.clip_grad_norm_(parameters, learner.rule.max_grad_norm)
        learner.optimizer.step()
        yield
