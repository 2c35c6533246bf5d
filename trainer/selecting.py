"""Answers for the annotators to the prompts that a reward model knows least about, beside a random arm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.records import Prompt, Response, Study
from preferences.selection import ACQUISITIONS, RANDOM, Acquisition, Picked, arms, random_arm, selected_arm
from preferences.store import Store
from trainer.models import Base
from trainer.policies import policies_or
from trainer.recheck import checked_reward
from trainer.roles import Roles
from trainer.sample import STORED_AT_ONCE, SampleStage, fitted, queue, respond, sample, sampler_of
from trainer.sampler import Sampler
from trainer.scoring import Scorer, response_example
from trainer.stage import open_study


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(SampleStage):
    """Sample answers to the study's prompts and queue them for the annotators."""

    select: Literal["none", "disagreement", "closeness"] = "none"
    """Which prompts come first: none: the oldest of those asked about least; disagreement: those on whose answers the members
    of --reward disagree most; closeness: those whose answers it finds nearest to even."""
    reward: Path | None = None
    """The reward model that chooses: the 'adapter' folder of a reward run."""
    random: float = 0.3
    """Share of the prompts that are drawn at random all the same. Held-out prompts are asked about in this arm alone, so that
    held-out numbers stay unbiased."""
    pool: int = 4
    """Prompts that are answered and scored for each one that is queued."""

    def needs_base(self) -> bool:
        """A reward model that chooses runs here, whoever draws the answers."""
        return self.select != "none" or self.endpoint is None

    def __post_init__(self) -> None:
        SampleStage.__post_init__(self)
        if not 0 <= self.random <= 1:
            raise RankloopError(f"random must be from 0 to 1, not {self.random}.")
        if self.pool < 1:
            raise RankloopError(f"pool must be at least 1, not {self.pool}.")
        if self.select != "none" and self.reward is None:
            raise RankloopError(f"--select {self.select} needs --reward, the reward model that chooses.")


def sample_selected(config: Select, store: Store, base: Base | None, job: Job | None = None) -> dict[str, Any]:
    """Answer prompts that wait and queue comparisons; what `sample` says, and with a selection {"selected", "random"}.

    `job`: as for `sample`.
    """
    if config.select == "none":
        return sample(config, store, base, job)
    assert base is not None, "A reward model needs the base."
    done = job.progress.get("prompts", 0) if job else 0

    def note(prompts: int) -> None:
        nonlocal done
        done += prompts
        if job:
            store.jobs.hold(job, {"prompts": done})

    study = open_study(store, config.study)
    roles = Roles(base)
    config = fitted(config, base, config.k or study.k)
    chooser = Chooser.load(config, roles, sampler_of(config, roles, config.k or study.k))
    policies = policies_or(store, study, chooser.sampler.plain)
    waiting = store.studies.prompts_without_comparison(study, 10**9)
    wanted = min(config.prompts or len(waiting), len(waiting))
    counts = {"prompts": 0, "responses": 0, "comparisons": 0, "selected": 0, "random": 0}
    while wanted and waiting:
        count = min(wanted, STORED_AT_ONCE)
        made = chooser.queue(store, study, waiting[: count * config.pool], count, note)
        counts = {name: counts[name] + made[name] for name in counts}
        wanted -= count
        waiting = store.studies.prompts_without_comparison(study, 10**9)
    return {**counts, "policies": [policy.name for policy in policies]}


@dataclass(frozen=True, slots=True)
class Chooser:
    """A reward model on the base that samples, and how it chooses."""

    config: Select
    roles: Roles
    model: Scorer
    sampler: Sampler

    @staticmethod
    def load(config: Select, roles: Roles, sampler: Sampler) -> "Chooser":
        """Raises RankloopError for disagreement within a single model; WrongAdapter."""
        assert config.reward is not None, "Without a reward model nothing is chosen."
        model = checked_reward(roles, config.reward, config.at_once)
        if config.select == "disagreement" and len(model.blocks) < 2:
            raise RankloopError(
                f"{config.reward} is a single reward model, which cannot disagree with itself; train an ensemble with "
                "`trainer reward --members 4`, or choose --select closeness."
            )
        return Chooser(config, roles, model, sampler)

    def queue(
        self, store: Store, study: Study, pool: Sequence[Prompt], count: int, note: Callable[[int], object] = bool
    ) -> dict[str, int]:
        """Queue comparisons of `count` of the pool's prompts; how many of everything. `note` hears, in the transaction that
        stores them, how many prompts they are of.

        The random arm draws from the whole pool; the other arm from what is left of its training prompts, which are
        answered and scored first; if they are too few, the random arm draws more. Answers that are not queued stay on record.
        """
        rng = np.random.default_rng([self.config.seed, store.comparisons.count(study)])
        shuffled, chance = random_arm(len(pool), len(pool), rng), arms(count, self.config.random, rng)
        drawn, later = shuffled[:chance], [picked.index for picked in shuffled[chance:]]
        rest = sorted(i for i in later if pool[i].split == "train")
        lacking = max(0, count - len(drawn) - len(rest))
        drawn += [Picked(i, RANDOM) for i in later if pool[i].split != "train"][:lacking]
        taken = [picked.index for picked in drawn]
        k = self.config.k or study.k
        with tqdm(total=(len(drawn) + len(rest)) * k, desc="sample", unit="answer") as bar:
            answers = self.answers(store, study, [pool[i] for i in (*taken, *rest)], bar.update)
        by_index = dict(zip((*taken, *rest), answers, strict=True))
        values = self.values([pool[i] for i in rest], [by_index[i] for i in rest])
        picked = [*drawn, *selected_arm(values, rest, count - len(drawn))]
        made = {"prompts": len(picked), "responses": sum(map(len, answers)), "comparisons": 0}
        with store.write():
            for arm in ("selected", "random"):
                indices = [one.index for one in picked if one.arm == arm]
                queued = queue(store, study, [pool[i] for i in indices], [by_index[i] for i in indices], origin=arm)
                made |= {arm: queued, "comparisons": made["comparisons"] + queued}
            note(len(picked))
        return made

    def answers(
        self, store: Store, study: Study, prompts: Sequence[Prompt], on_rows: Callable[[int], object]
    ) -> list[list[Response]]:
        """K a prompt, by the study's sampling policies."""
        policies = policies_or(store, study, self.sampler.plain)
        return respond(self.config, store, self.sampler, policies, prompts, self.config.k or study.k, on_rows)

    def values(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[Response]]) -> list[float]:
        """How much a label of each prompt's answers is worth, as the reward model sees it."""
        acquisition: Acquisition = "closeness" if self.config.select == "closeness" else "disagreement"
        base = self.roles.base
        examples = []
        for prompt, own in zip(prompts, answers, strict=True):
            ids = base.prompt_ids(prompt.messages)
            examples += [response_example(base, ids, one.text, one.finish_reason == "stop") for one in own]
        scores = np.array(self.model.each_all(examples, self.config.at_once))
        ends = np.cumsum([len(own) for own in answers])[:-1]
        return [ACQUISITIONS[acquisition](part) for part in np.split(scores, ends, axis=1)] if len(answers) else []
