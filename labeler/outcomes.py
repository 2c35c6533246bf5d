"""What came of a job on another host, as its worker tells it: by kind of job, of a known shape and size, or refused.

Pages read nothing else of it, so whatever a worker sends, they can be shown. What a run makes is in its folder instead, which
`labeler.run_documents` looks at.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, ValidationError

from labeler.bodies import Body, Text
from labeler.effects import Count, Words
from preferences.errors import BadUpload
from preferences.jobs import Job
from preferences.store import Store
from preferences.tables.jobs import PLAN

Number = Annotated[float, Field(allow_inf_nan=False)]
Numbers = Annotated[dict[Words, Number], Field(max_length=50)]
Counts = Annotated[dict[Words, Count], Field(max_length=50)]
Names = Annotated[list[Words], Field(max_length=100)]


class Estimate(Body):
    """With its 95% interval; None where there was nothing to estimate it from."""

    value: Number | None
    low: Number | None
    high: Number | None
    n: Count


class Answered(Body):
    """The answers of one policy."""

    length: Number
    eos_rate: Number
    score: Estimate | None = None


class Other(Answered):
    """Those of one of several policies, against the one that all are held against."""

    win_rate: Estimate | None = None
    score_difference: Estimate | None = None


class Evaluated(Body):
    """Of `evaluate`."""

    prompts: Count
    policy: Words
    against: Words
    new: Answered
    old: Answered
    win_rate: Estimate | None = None
    score_difference: Estimate | None = None
    others: Annotated[dict[Words, Other], Field(max_length=20, default_factory=dict)]
    human: Count | None = None
    queued: Count | None = None
    equal: Count | None = None

    def policies(self) -> list[str | None]:
        """Those that it names."""
        return [self.policy, self.against, *self.others]


class Checked(Body):
    """Of `check`."""

    policy: Words
    against: Words | None
    scored: Count
    queued: Counts

    def policies(self) -> list[str | None]:
        """Those that it names."""
        return [self.policy, self.against]


class Sampled(Body):
    """Of `sample`."""

    prompts: Count
    responses: Count
    comparisons: Count
    selected: Count | None = None
    random: Count | None = None
    policies_: Annotated[Names, Field(alias="policies")]

    def policies(self) -> list[str | None]:
        """Those that it names."""
        return [*self.policies_]


class Step(Body):
    """A step of a stage, on the card that was asked about."""

    batch: Count
    tokens: Count
    total_gib: Number


class StagePlan(Body):
    """The memory of a stage, and the options with which it fits."""

    fits: bool
    total_gib: Number
    parts: Numbers
    batch: Count
    options: Annotated[dict[Words, Words | int | float | bool | None], Field(max_length=50)]
    steps: Annotated[dict[Words, Step], Field(max_length=20)]


class MemoryPlan(Body):
    """Of a memory plan; its figures are those of `trainer plan --json`."""

    model: Annotated[Text, Field(max_length=4096)]
    quantize: Words
    vram_gib: Number
    fits: bool
    total_gib: Number
    parts: Numbers
    batch: Count
    tightest: Words
    stages: Annotated[dict[Words, StagePlan], Field(min_length=1, max_length=10)]
    parameters: Count
    download_gib: Number
    disk_gib: Number
    host_ram_gib: Number
    time_split: Numbers
    change: Names
    notes: Names


RESULTS: dict[str, type[Evaluated | Checked | Sampled]] = {"evaluate": Evaluated, "check": Checked, "sample": Sampled}


class Progress(Body):
    """How far a job is. What a page shows of folders and logs is not for the worker to say."""

    prompts: Count | None = None
    answers: Count | None = None
    of: Count | None = None
    plan: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    text: Annotated[Text, Field(max_length=100_000)] | None = None


def checked_progress(store: Store, job: Job, progress: Progress) -> dict[str, Any]:
    """What is kept of it with the job. Raises BadUpload if a job of that kind makes no such thing."""
    found = progress.model_dump(exclude_none=True)
    for name, kind in (("result", RESULTS.get(job.kind)), ("plan", MemoryPlan if job.kind == PLAN else None)):
        if name in found:
            found[name] = read(kind, job, name, found[name])
    if "text" in found and "plan" not in found:
        raise BadUpload(f"A job of the kind {job.kind!r} has no text without a memory plan.")
    if "result" in found:
        check_known(store, RESULTS[job.kind].model_validate(found["result"]).policies())
    return found


def read(kind: type[Body] | None, job: Job, name: str, said: dict[str, Any]) -> dict[str, Any]:
    """It, if it is as jobs of that kind say it. Raises BadUpload."""
    if kind is None:
        raise BadUpload(f"A job of the kind {job.kind!r} has no {name}.")
    try:
        return kind.model_validate(said).model_dump(exclude_unset=True, by_alias=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part)[:100] for part in (name, *first["loc"]))
        raise BadUpload(f"What the worker says came of the job is malformed at {place}: {first['msg']}.") from error


def check_known(store: Store, names: Iterable[str | None]) -> None:
    """Raises BadUpload unless there are policies of all those names."""
    for name in names:
        if name is not None and store.policies.find(name) is None:
            raise BadUpload(f"What came of the job names a policy {name[:100]!r}, which is not known here.")
