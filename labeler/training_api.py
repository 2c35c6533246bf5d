"""Training from the browser, for researchers and admins: forms, jobs and memory plans."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from labeler.bodies import Body, Ident, Text
from labeler.downloads import Owner
from labeler.options import BadOptions, completed
from labeler.training import adapters, is_far, job_json, jobs_json, reported, rewards, training_jobs, worker_json
from preferences.errors import NameTaken, NotReady, UnknownName
from preferences.jobs import Job, KnownWorker
from preferences.records import Annotator
from preferences.run_files import RUN_NAME
from preferences.store import Store
from preferences.tables.jobs import BESIDE, OWN_PROMPT, PLAN
from preferences.tables.promotions import refusal

# What is chosen by its folder.
CHOICES = {"reward-model": rewards, "adapter": adapters, "run": reported}
NAMES = {"reward-model": "reward model", "adapter": "policy", "run": "run"}
Names = Annotated[list[Annotated[Text, Field(max_length=300)]], Field(max_length=20)]
Options = Annotated[dict[Ident, str | int | float | bool | Names | None], Field(max_length=100)]


class RunBody(Body):
    """Work for the worker. `run`: the name of what it makes, which is also that of its folder and its policy."""

    run: Annotated[str, Field(max_length=64)] = ""
    options: Options = Field(default_factory=dict)


class LaunchBody(RunBody):
    """A run to be made, or something else to be done."""

    stage: Literal["sft", "reward", "ppo", "evaluate", "report", "check"]


class PlanBody(RunBody):
    """What memory that run would take on a card of `vram` GiB."""

    stage: Literal["sft", "reward", "ppo"]
    vram: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False, strict=False)]


def training_api(store: Store) -> APIRouter:
    """GET training, training/jobs, training/jobs/JOB; POST training/jobs, training/plans, training/jobs/JOB/stop, again."""
    api = APIRouter(prefix="/api/training")

    @api.get("")
    def forms(_: Owner) -> dict[str, Any]:
        return forms_json(store)

    @api.get("/jobs")
    def jobs(_: Owner) -> dict[str, Any]:
        return jobs_json(store)

    @api.post("/jobs")
    def launch(body: LaunchBody, account: Owner) -> dict[str, Any]:
        return {"job": launched(store, body, account).id}

    @api.post("/plans")
    def plan(body: PlanBody, account: Owner) -> dict[str, Any]:
        spec = {"stage": body.stage, "options": spec_of(store, body), "vram": body.vram}
        return {"job": store.jobs.launch(PLAN, spec, account.id).id}

    @api.get("/jobs/{job}")
    def one(job: str, _: Owner) -> dict[str, Any]:
        return job_json(store, found(store, job))

    @api.post("/jobs/{job}/stop")
    def stop(job: str, account: Owner) -> dict[str, Any]:
        return {"status": store.jobs.stop(found(store, job), account.id).status}

    @api.post("/jobs/{job}/again")
    def again(job: str, account: Owner) -> dict[str, Any]:
        return {"status": store.jobs.again(found(store, job), account.id).status}

    return api


def found(store: Store, ident: str) -> Job:
    """The job of that id; an annotator's own prompt is nobody else's business. Raises UnknownName."""
    job = store.jobs.get(ident)
    if job.kind == OWN_PROMPT:
        raise UnknownName(f"There is no job {ident!r}.")
    return job


def forms_json(store: Store) -> dict[str, Any]:
    """{"worker", "stages" (JSON Schemas), "choices" (of each format), "names" (free ones for runs)}."""
    worker = store.workers.newest()
    stages = worker.about["stages"] if worker else {}
    answering = [policy for policy in store.policies.all() if refusal(policy, worker) is None]
    return {
        "worker": worker_json(store),
        "stages": stages,
        "choices": {
            "study": [{"value": study.name, "name": study.name} for study in store.studies.all()],
            "policy": [{"value": policy.name, "name": f"{policy.name} ({policy.kind})"} for policy in answering],
            **{name: choices(store) for name, choices in CHOICES.items()},
        },
        "names": {name: free_name(store, worker, name) for name in stages if makes_run(stages[name])} if worker else {},
    }


def makes_run(schema: Mapping[str, Any]) -> bool:
    """Whether the stage has a folder of its own."""
    return bool(schema.get("makes_run", True))


def free_name(store: Store, worker: KnownWorker, stage: str) -> str:
    """The first of stage-1, stage-2, ... that no run, job or policy has."""
    number = 1
    while taken(store, worker, f"{stage}-{number}"):
        number += 1
    return f"{stage}-{number}"


def taken(store: Store, worker: KnownWorker, run: str) -> bool:
    """Whether the name is a run's, a job's or a policy's."""
    out = out_of(worker, run)
    return (
        out.exists() or store.policies.find(run) is not None
        or any(job.spec.get("out") == str(out) for job in training_jobs(store))
    )  # fmt: skip


def out_of(worker: KnownWorker, run: str) -> Path:
    """The folder of a run of that name."""
    return Path(worker.about["runs"]) / run


def launched(store: Store, body: LaunchBody, account: Annotator) -> Job:
    """The queued job. Raises BadOptions, NameTaken, NotReady."""
    with store.write():  # of two launches under one name, one is refused
        spec = spec_of(store, body)
        worker = store.workers.newest()
        if worker and "out" in spec and taken(store, worker, body.run):
            raise NameTaken(f"There is a run, a job or a policy named {body.run!r} already; choose another name.")
        return store.jobs.launch(body.stage, spec, account.id)


def spec_of(store: Store, body: LaunchBody | PlanBody) -> dict[str, Any]:
    """What the worker is to do. Raises BadOptions, NotReady, UnknownName."""
    worker = store.workers.newest()
    if worker is None:
        raise NotReady("No worker has said yet what it can do; start `trainer worker` on this database.")
    schema = worker.about["stages"].get(body.stage)
    if schema is None and body.stage in BESIDE and is_far(worker):
        raise NotReady(
            f"A {body.stage} is made beside the database, and the worker is on another host; start `trainer worker` on the "
            f"labeler's host, or run `trainer {body.stage}` there."
        )
    if schema is None:
        raise NotReady(f"The worker knows no stage {body.stage!r}; start one of this version.")
    if makes_run(schema) and not RUN_NAME.fullmatch(body.run):
        raise BadOptions(
            "A run's name has 1 to 64 letters, digits, dots, dashes or underscores, the first no dot or dash."
        )
    spec = completed(schema, body.options)
    check_choices(store, schema["properties"], spec)
    return {**spec, "out": str(out_of(worker, body.run))} if makes_run(schema) else spec


def check_choices(store: Store, properties: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Whether what the options name is there. Raises UnknownName."""
    for name, property_ in properties.items():
        value, kind = spec.get(name), property_.get("format")
        if value is None or kind is None:
            continue
        if kind == "study":
            store.studies.get(value)
        elif kind == "policy":
            for one in value if isinstance(value, list) else [value]:
                store.policies.get(one)
        elif value not in [one["value"] for one in CHOICES[kind](store)]:
            raise UnknownName(f"There is no {NAMES[kind]} at {value}; choose one of the list.")
