"""An annotator's own prompt, answered while they wait."""

from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.store import Store
from preferences.tables.jobs import OWN_PRIORITY
from trainer.policies import policies_or
from trainer.sample import SampleStage, respond
from trainer.sampler import Sampler


def answer_own_prompt(config: SampleStage, store: Store, job: Job, sampler: Sampler) -> None:
    """Sample the study's K answers to the job's prompt and queue them for its annotator alone.

    The job's progress says how many answers have ended, and at last which comparison they are. Raises RankloopError if
    all answers are the same.
    """
    if "comparison" in job.progress:
        return  # the worker died between this and the job's end
    study = store.studies.get(job.spec["study"])
    prompt = store.prompts.get(job.spec["prompt"])
    k, ended = config.k or study.k, 0

    def note(rows: int) -> None:
        nonlocal ended
        ended += rows
        store.jobs.beat(job, {"answers": ended, "of": k})

    note(0)
    policies = policies_or(store, study, sampler.plain)
    (answers,) = respond(config, store, sampler, policies, [prompt], k, note)
    # The prompt does not join the study's prompts: nobody else is shown what somebody typed.
    with store.write():
        made = store.comparisons.add(
            study, prompt.id, answers, origin="own prompt", priority=OWN_PRIORITY, asked_by=job.spec["annotator"]
        )
        if made is None:
            raise RankloopError("All answers to this prompt were the same; try another prompt.")
        store.jobs.hold(job, {"answers": k, "of": k, "comparison": made.id})  # else nothing is queued: not twice
