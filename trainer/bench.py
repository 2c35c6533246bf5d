"""What a worker has loaded, and what it does with jobs on that."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm import tqdm

from preferences.jobs import Job
from preferences.records import Prompt, Study
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT, PLAN, TOP_UP
from trainer.jobs import do_job, do_plan, held
from trainer.own_prompts import answer_own_prompt
from trainer.policies import policies_or
from trainer.roles import Roles
from trainer.sample import fitted, queue, respond, sampler_of
from trainer.sampler import Sampler
from trainer.selecting import Chooser
from trainer.stage import default_device_name, device_lock, open_base, open_study

if TYPE_CHECKING:
    from trainer.worker import Worker


@dataclass(frozen=True, slots=True)
class Ready:
    """The options with a token budget that fits the device, who draws answers, and what chooses prompts, if anything."""

    config: "Worker"
    sampler: Sampler
    chooser: Chooser | None

    @property
    def count(self) -> int:
        """Prompts answered between two looks at the queue."""
        return self.config.prompts or self.config.prompts_at_once


class Bench:
    """The base stays loaded between jobs that sample; a training stage needs the memory, and leaves adapters on its own."""

    def __init__(self) -> None:
        self.ready: Ready | None = None

    def take(self, config: "Worker", store: Store, job: Job) -> None:
        """Do a job; whatever goes wrong fails it with a sentence."""
        if job.kind == PLAN:
            do_plan(config, store, job)
        elif job.kind in (OWN_PROMPT, TOP_UP):
            with held(store, job), device_lock(default_device_name()):
                ready = self.loaded(config, store)
                if job.kind == OWN_PROMPT:
                    answer_own_prompt(ready.config, store, job, ready.sampler)
                else:
                    do_top_up(ready, store, job)
        else:
            self.ready = None
            do_job(config, store, job)

    def loaded(self, config: "Worker", store: Store) -> Ready:
        """The base with whatever the worker needs on it."""
        if self.ready is None:
            k = config.k or open_study(store, config.study).k
            roles = Roles(open_base(config)) if config.needs_base() else None
            config = fitted(config, roles.base, k) if roles else config
            sampler = sampler_of(config, roles, k)
            chooser = Chooser.load(config, roles, sampler) if roles and config.select != "none" else None
            self.ready = Ready(config, sampler, chooser)
        return self.ready

    def top_up(self, config: "Worker", store: Store, study: Study) -> int:
        """Answer a few more prompts, those asked about least first or those chosen; how many comparisons that gave."""
        with device_lock(default_device_name()):
            ready = self.loaded(config, store)
            pool = ready.count * (config.pool if ready.chooser else 1)
            return more(ready, store, study, store.studies.least_compared_prompts(study, pool))


def do_top_up(ready: Ready, store: Store, job: Job) -> None:
    """The same for prompts that the labeler has picked; once, whoever takes the job up."""
    if job.progress.get("prompts"):
        return
    prompts = store.prompts.get_many(job.spec["prompts"])
    study = store.studies.get(job.spec["study"])
    more(ready, store, study, [prompts[ident] for ident in job.spec["prompts"]], job)


def more(ready: Ready, store: Store, study: Study, prompts: list[Prompt], job: Job | None = None) -> int:
    """Comparisons of answers to some of the prompts; of a `job` that was lost nothing is queued."""
    config, sampler = ready.config, ready.sampler

    def note(count: int) -> None:
        if job:
            store.jobs.hold(job, {"prompts": count})

    if ready.chooser:
        return ready.chooser.queue(store, study, prompts, min(ready.count, len(prompts)), note)["comparisons"]
    policies, k = policies_or(store, study, sampler.plain), config.k or study.k
    with tqdm(total=len(prompts) * k, desc="sample", unit="answer") as bar:
        responses = respond(config, store, sampler, policies, prompts, k, bar.update)
    with store.write():
        made = queue(store, study, prompts, responses)
        note(len(prompts))
    return made
