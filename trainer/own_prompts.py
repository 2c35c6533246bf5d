"""An annotator's own prompt, answered while they wait."""

from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.store import Store
from trainer.policies import sampling_policies
from trainer.roles import Roles
from trainer.sample import SampleStage, respond

PRIORITY = 1000.0  # it is the next comparison of whoever typed the prompt


def answer_own_prompt(config: SampleStage, store: Store, job: Job, roles: Roles) -> None:
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
    policies = sampling_policies(store, study, roles.base)
    (answers,) = respond(config, store, roles, policies, [prompt], k, note)
    # The prompt does not join the study's prompts: nobody else is shown what somebody typed.
    with store.write():
        made = store.comparisons.add(
            study, prompt.id, answers, origin="own prompt", priority=PRIORITY, asked_by=job.spec["annotator"]
        )
        if made is None:
            raise RankloopError("All answers to this prompt were the same; try another prompt.")
        store.jobs.hold(job, {"answers": k, "of": k, "comparison": made.id})  # else nothing is queued: not twice
