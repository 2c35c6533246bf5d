"""The reward model: a LoRA adapter and a scalar head that put better-ranked answers above worse ones."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from preferences.errors import RankloopError
from preferences.run_files import CHECKPOINTS
from preferences.store import Store
from trainer.budget import PASSES
from trainer.calibration import fit_temperature
from trainer.checkpoints import Checkpoints, State
from trainer.elements import distinct
from trainer.ensemble import Ensemble, averaged, member_role, normalised
from trainer.exits import named_layers
from trainer.going_on import folder_of, out_or_resume
from trainer.models import Base
from trainer.objective import Asked, Loss, SoftLabels, Ties
from trainer.optimizers import OptimizerName
from trainer.ranked import Ranked
from trainer.recheck import write_recheck
from trainer.reward_material import read
from trainer.reward_metrics import accuracy, pairs_of, split_like
from trainer.reward_trainer import RewardTrainer
from trainer.roles import Roles
from trainer.room import reward_budget
from trainer.runs import Run, run_in
from trainer.scoring import Pooling, RewardModel, Scorer
from trainer.stage import Stage
from trainer.world import ALONE, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward(Stage):
    """Train a reward model on the rankings of the training prompts. docs/reward.md says what the options do."""

    out: Path | None = None
    """Folder of the run."""
    resume: Path | None = None
    """Go on with the run in this folder, under its own options, from its newest checkpoint."""
    include_simulated: bool = False
    """Train on the rankings of simulated annotators too."""
    members: int = 1
    """Reward models to train, each on its own sample of the prompts and from its own seed."""
    combine: Literal["ensemble", "average"] = "ensemble"
    """ensemble: all of them score, and their spread is known; average: one adapter with the mean of their weights (WARM)."""
    bagging: bool = True
    """Members learn from prompts drawn with replacement; else all from the same."""
    loss: Loss = "pairs"
    """pairs: Bradley-Terry on all pairs of a comparison; plackett-luce: each ranking as choices from best to worst."""
    ties: Ties = "drop"
    """drop: they say nothing; half: won and lost by half; davidson, rao-kupper: a tie has a chance of its own."""
    soft_labels: SoftLabels = "votes"
    """votes: the share of rankings; annotator-model: shares that weigh annotators by accuracy; majority: all or nothing."""
    margin: float = 0.0
    """Margin of the loss for each step of strength between two answers ("much better" is four); 0 ignores strengths."""
    all_bad: float = 0.1
    """Weight of pushing the answers of an "all bad" comparison below 0, the line of what is acceptable."""
    epochs: float = 1.0
    """Passes over the rankings after the head's warm start."""
    lr: float = 2e-4
    """Learning rate of the adapter; linear decay."""
    head_lr: float = 1e-4
    """Learning rate of the head; linear decay."""
    batch: int = 8
    """Comparisons an update, at least; those that share answers stay together."""
    rank: int = 16
    """Rank of the adapter."""
    pooling: Pooling = "last"
    """Which states the head reads: the one after the answer's last token, or the mean of those after each of its tokens."""
    layer: tuple[int, ...] = ()
    """The layers whose states the head reads, counted from 1 at the bottom: one, or the mean of several; default the last.
    Those above them are not run."""
    l2: float = 1.0
    """Weight decay of the head's warm start, a linear probe on standardised states."""
    centering: float = 0.01
    """Weight of the mean square of the scores."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    validation: float = 0.1
    """Share of the training prompts whose loss decides which state is kept, from 50 prompts on; 0 keeps the last state."""
    looks: int = 4
    """How often the validation comparisons are looked at, besides after the warm start."""
    normalise_on: int = 64
    """Training comparisons whose answers decide the zero and the unit of the scores, and the reported training accuracy."""
    max_length: int | None = None
    """Tokens that a prompt and an answer may have; comparisons with longer ones are left out; default the model's context."""
    optimizer: OptimizerName = "adamw"
    """AdamW with its states in 32 bits, in 8, or in 8 and paged: moved to the machine's memory when the card's runs out."""
    checkpointing: bool = False
    """Keep only the layers' inputs for the backward pass: less memory, one more forward pass."""
    token_budget: int | None = None
    """Tokens a micro-batch; default what fits on the GPU, 4096 on a CPU."""
    save_every: int = 50
    """Updates between two checkpoints."""
    keep: int = 2
    """Checkpoints that are kept."""

    def __post_init__(self) -> None:
        wrong = out_or_resume(self)
        if min(self.save_every, self.keep) < 1:
            wrong.append("save_every and keep must be at least 1")
        object.__setattr__(self, "layer", named_layers(self.layer))  # runs of before hold a number, or nothing
        if any(layer < 1 for layer in self.layer):
            wrong.append("layer must be at least 1")
        if self.epochs < 0 or self.batch < 1 or self.lr <= 0 or self.members < 1:
            wrong.append("epochs must be at least 0, batch and members at least 1 and lr above 0")
        if min(self.margin, self.all_bad, self.centering) < 0:
            wrong.append("margin, all_bad and centering must be at least 0")
        if not 0 <= self.validation < 1 or self.looks < 1:
            wrong.append("validation must be from 0 to below 1 and looks at least 1")
        wrong += self.asked().inconsistencies()
        if wrong:
            raise RankloopError("; ".join(wrong) + ".")

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return folder_of(self)

    @property
    def passes(self) -> int:
        """Tokens a micro-batch; a CPU's default if nothing was planned."""
        return self.token_budget or PASSES

    def asked(self) -> Asked:
        """What the loss must know."""
        return Asked(self.loss, self.ties, self.soft_labels, self.margin, self.all_bad, self.centering)


def reward(config: Reward, store: Store, base: Base, world: World = ALONE) -> dict[str, Any]:
    """Train, normalise, save; {"adapter", "members", "comparisons", "pairs", "ties", "validation", "train_accuracy", ...}.

    "mean" and "std" of the raw scores are lists for an ensemble. `store` is asked by the main process alone.
    """
    run = run_in(config.folder, world)
    material = world.told(lambda: read(config, store, base, run))
    study, learned, validation, notes = material.study, material.learned, material.validation, material.notes
    budget = material.config.token_budget or min(world.each(reward_budget(material.config, base, study.k)))
    config = replace(material.config, token_budget=budget)
    if not material.goes_on:
        run.start("reward", config, base, notes=notes, processes=world.size, **material.facts)
    for note in notes:
        print(note, file=sys.stderr)
    state, trainers = train_members(config, Roles(base, world), learned, validation, run)
    if state == "interrupted" and world.size > 1:  # the others may have gone, without whom there are no scores
        run.finish(state)
        raise KeyboardInterrupt
    judged = random.Random(config.seed).sample(learned, min(config.normalise_on, len(learned)))
    card = {
        "kind": "reward", "pooling": config.pooling, "layer": config.layer, "study": study.name,
        "data_hash": material.facts["data_hash"], "comparisons": len(learned), "loss": config.loss, "ties": config.ties,
    }  # fmt: skip
    model, scores = assembled(config, trainers, judged, card)
    found, dealt = heldout_accuracy(model, material.held, config.passes)
    provenance = {"heldout_accuracy": found, **temperature(model, validation, config.passes)}
    if world.main:
        save(model, run.adapter, provenance | {"versions": run.config()["versions"]})
        keep_scores(store, run.adapter, material.held, dealt)
    write_recheck(run.adapter, model, material.checked, config.passes)
    facts = {
        "train_accuracy": accuracy(judged, split_like(scores, judged)).value, "heldout_accuracy": found, **units(model)
    }  # fmt: skip
    run.finish(state, **facts)
    if state == "interrupted":
        raise KeyboardInterrupt
    pairs, ties = sum(len(r.pairs) for r in learned), sum(len(r.ties) for r in learned)
    return {
        "adapter": str(run.adapter), "members": len(trainers), "comparisons": len(learned), "pairs": pairs, "ties": ties,
        "validation": len(validation), **facts, "notes": notes,
    }  # fmt: skip


def train_members(
    config: Reward, roles: Roles, learned: list[Ranked], validation: list[Ranked], run: Run
) -> tuple[str, list[RewardTrainer]]:
    """Each member in turn, from the newest checkpoint if there is one, which the main process reads for all; how it ended,
    and those that were begun."""
    trainers: list[RewardTrainer] = []
    checkpoints = Checkpoints(run.folder / CHECKPOINTS, config.keep)
    states: list[State] = (roles.world.told(checkpoints.newest) or {}).get("members", [])
    saved = sum(state["done"] + 1 for state in states)

    def save() -> None:
        nonlocal saved
        saved += 1
        if roles.world.main:
            checkpoints.save(saved, {"members": [trainer.state_dict() for trainer in trainers]})

    for number in range(config.members):
        role = "reward" if config.members == 1 else member_role(number)
        seed = config.seed + 1000 * number
        own = resampled(learned, seed) if config.members > 1 and config.bagging else learned
        trainers.append(RewardTrainer(config, roles, own, run, role, seed, validation))
        if number < len(states):
            trainers[-1].load_state_dict(states[number])
            run.truncate(states[number]["done"], role)
        if trainers[-1].train(save) == "interrupted":
            return "interrupted", trainers
    return "finished", trainers


def resampled(ranked: Sequence[Ranked], seed: int) -> list[Ranked]:
    """The comparisons of as many prompts, drawn with replacement (bagging, Breiman 1996); all if none would decide."""
    by_prompt: dict[str, list[Ranked]] = {}
    for r in ranked:
        by_prompt.setdefault(r.prompt, []).append(r)
    drawn = random.Random(seed).choices(sorted(by_prompt), k=len(by_prompt))
    found = [r for prompt in drawn for r in by_prompt[prompt]]
    return found if any(r.pairs for r in found) else list(ranked)


def assembled(
    config: Reward, trainers: Sequence[RewardTrainer], judged: Sequence[Ranked], card: dict[str, Any]
) -> tuple[Scorer, list[float]]:
    """What was trained as one thing that scores, and its scores of the judged comparisons' answers."""
    members, found = [], []
    for trainer in trainers:
        raw = trainer.scores(judged)
        own = {**card, "seed": trainer.seed, "tie_parameters": trainer.tie_parameters}
        members.append(normalised(RewardModel(trainer.roles, trainer.role, 0.0, 1.0, own), raw))
        found.append((np.array(raw) - members[-1].mean) / members[-1].std)
    if config.members == 1:
        return replace(members[0], card={**members[0].card, "recheck": True}), found[0].tolist()
    if config.combine == "average":
        merged = averaged(members, "average")
        examples = [example for r in judged for example in r.examples]
        model = normalised(merged, merged.score_all(examples, config.passes))
        model = replace(model, card={**model.card, "recheck": True})
        return model, model.score_all(examples, config.passes)
    return Ensemble(trainers[0].roles, tuple(members), {**card, "recheck": True}), np.mean(found, 0).tolist()


def heldout_accuracy(
    model: Scorer, held: Sequence[Ranked], token_budget: int
) -> tuple[dict[str, Any] | None, list[list[float]]]:
    """With its interval, as the adapter's card keeps it (None without held-out rankings), and each comparison's scores."""
    if not held:
        return None, []
    examples, rows = distinct(held)
    scores = model.score_all(examples, token_budget)
    dealt = [[scores[i] for i in row] for row in rows]
    return accuracy(held, dealt).as_dict(), dealt


def keep_scores(store: Store, adapter: Path, held: Sequence[Ranked], dealt: Sequence[Sequence[float]]) -> None:
    """What the model says of ranked held-out answers: the accuracy that pages show day by day begins with it."""
    items = {one.id: one.items for one in store.comparisons.get_many([r.ident for r in held])}
    scores = {
        item: score for r, of in zip(held, dealt, strict=True) for item, score in zip(items[r.ident], of, strict=True)
    }
    store.scores.add(str(adapter.resolve()), scores)


def temperature(model: Scorer, validation: Sequence[Ranked], token_budget: int) -> dict[str, float]:
    """{"temperature"}: the divisor of score differences that makes chances of them, fitted on the validation comparisons."""
    if not validation:
        return {}
    examples, rows = distinct(validation)
    scores = model.score_all(examples, token_budget)
    pairs = pairs_of(validation, [[scores[i] for i in row] for row in rows])
    return {"temperature": fit_temperature([pair.gap for pair in pairs], [pair.share for pair in pairs])}


def save(model: Scorer, folder: Path, facts: dict[str, Any]) -> None:
    """The adapter, or a folder of adapters, with these facts on its card."""
    if isinstance(model, Ensemble):
        replace(model, card={**model.card, **facts}).save(folder)
    else:
        model.roles.save(model.blocks[0], folder, {**model.card, **facts})


def units(model: Scorer) -> dict[str, Any]:
    """ "mean" and "std" of the raw scores."""
    if isinstance(model, Ensemble):
        return {"mean": [member.mean for member in model.members], "std": [member.std for member in model.members]}
    return {"mean": model.card["mean"], "std": model.card["std"]}
