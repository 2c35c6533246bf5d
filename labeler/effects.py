"""What a worker on another host has made, as it tells it: checked, then stored in one transaction or not at all.

It may add answers, comparisons, policies of its own run, scores and answers to look at, for its job's study; nothing else.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from labeler.bodies import Body, Ident, Text
from preferences.errors import BadUpload
from preferences.jobs import Job
from preferences.records import EQUAL, HUMAN, Policy, Response, Study
from preferences.rounds import choose_policies
from preferences.run_files import ADAPTER
from preferences.store import Store
from preferences.tables.jobs import OWN_PRIORITY, OWN_PROMPT, TOP_UP

ORIGINS = {  # of comparisons that a kind of job makes
    "sample": ("sampled", "selected", "random"), TOP_UP: ("sampled", "selected", "random"), OWN_PROMPT: ("own prompt",),
    "evaluate": ("blind", EQUAL),
}  # fmt: skip
TRAINED = "adapter|snapshots/[0-9]{6}"  # in the run's folder
Number = Annotated[float, Field(allow_inf_nan=False, strict=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Words = Annotated[Text, Field(max_length=300)]


class SentPolicy(Body):
    """A policy that the run made. `adapter`: its folder."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{20}$")]
    name: Words
    kind: Literal["base", "sft", "ppo", "human"]
    base: Words
    quantization: Literal["none", "int8", "nf4"]
    adapter: Annotated[Text, Field(max_length=4096)] | None
    parent: Ident | None
    data_hash: Annotated[Text, Field(max_length=64)]
    config: dict[str, Any]
    code_version: Words


class SentResponse(Body):
    """An answer; its id is worked out here."""

    prompt: Ident
    policy: Ident
    text: Annotated[Text, Field(max_length=1_000_000)]
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    sample_index: Count
    temperature: Number
    top_p: Number
    max_new_tokens: Count
    finish_reason: Literal["stop", "length"]
    tokens: Count
    template_hash: Annotated[Text, Field(max_length=64)]
    provenance: Annotated[dict[Words, Words | int | float | None], Field(max_length=20, default_factory=dict)]


class SentComparison(Body):
    """Answers to be ranked together."""

    prompt: Ident
    responses: Annotated[list[Ident], Field(min_length=2, max_length=9)]
    origin: Literal["sampled", "selected", "random", "own prompt", "blind", "equal"]


class SentCheck(Body):
    """An answer to look at."""

    response: Ident
    kind: Annotated[Text, Field(max_length=64)]
    value: Number
    baseline: Ident | None


class Effects(Body):
    """All of it."""

    policies: list[SentPolicy] = Field(default_factory=list)
    responses: list[SentResponse] = Field(default_factory=list)
    comparisons: list[SentComparison] = Field(default_factory=list)
    sampling: list[Ident] | None = None
    scores: dict[Annotated[Text, Field(max_length=4096)], dict[Ident, Number]] = Field(default_factory=dict)
    spot_checks: list[SentCheck] = Field(default_factory=list)


def read_effects(data: bytes) -> Effects:
    """Raises BadUpload."""
    try:
        return Effects.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadUpload(f"What the worker says that it made is malformed at {place}: {first['msg']}.") from error


def store_effects(store: Store, job: Job, study: Study, effects: Effects) -> dict[str, Any]:
    """Store them; what they add to the job's progress. To be called in a transaction. Raises BadUpload, NameTaken."""
    for policy in effects.policies:
        store.policies.add(policy_of(store, job, policy))
    add_responses(store, job, study, effects.responses)
    made = [add_comparison(store, job, study, comparison) for comparison in effects.comparisons]
    if effects.sampling and may_choose(store, job, study):
        known = {policy.id: policy for policy in store.policies.all()}
        if not known.keys() >= set(effects.sampling):
            raise BadUpload("A policy that is to answer prompts is not known here.")
        choose_policies(store, study, [known[ident] for ident in effects.sampling])
    add_scores(store, job, study, effects)
    return {"comparison": made[0]} if job.kind == OWN_PROMPT and made else {}


def policy_of(store: Store, job: Job, sent: SentPolicy) -> Policy:
    """The row of a policy that this job may add: its own run's, the plain base, or people's if it brings their answers."""
    out = run_folder(job)
    if sent.kind == "human":
        fits = brings_people(job) and Policy(**sent.model_dump()) == Policy.of_people()
    elif sent.kind == "base":
        fits = sent.adapter is None and sent.parent is None
    else:
        name = job.spec.get("name") or (out.name if out else "")
        fits = (
            sent.kind == job.kind
            and (sent.name == name or sent.name.startswith(f"{name}@"))
            and sent.adapter is not None
            and bool(re.fullmatch(f"{re.escape(str(out))}/({TRAINED})", sent.adapter))
            and (sent.parent is None or store.policies.find(sent.parent) is not None)
        )
    if not fits:
        raise BadUpload(f"The policy {sent.name!r} is none that this job may add.")
    return Policy(**sent.model_dump())


def brings_people(job: Job) -> bool:
    """Whether what people wrote is among the answers of the job."""
    return job.kind == "evaluate" and bool(job.spec.get("human"))


def run_folder(job: Job) -> Path | None:
    """Where the job's run is on this host."""
    out = job.spec.get("out") or job.spec.get("resume")
    return Path(out).resolve() if out else None


def add_responses(store: Store, job: Job, study: Study, sent: list[SentResponse]) -> None:
    """Answers to prompts of the job's study."""
    made = [Response.make(one.prompt, one.policy, one.text, one.seed, one.sample_index, **rest_of(one)) for one in sent]
    asked = {response.prompt for response in made}
    if job.kind == OWN_PROMPT:
        allowed = {job.spec["prompt"]}
    else:
        allowed = set(job.spec["prompts"]) if job.kind == TOP_UP else store.prompts.of_study(study, asked)
    people = HUMAN if brings_people(job) else None
    policies = {one.id for one in store.policies.all() if one.kind in ("base", "sft", "ppo") or one.name == people}
    if not asked <= allowed or not {response.policy for response in made} <= policies:
        raise BadUpload("An answer is to a prompt, or by a policy, that is not the job's.")
    store.responses.add(made, {one.id: told.provenance for one, told in zip(made, sent, strict=True)})


def rest_of(sent: SentResponse) -> dict[str, Any]:
    """What does not make a response's id."""
    return sent.model_dump(exclude={"prompt", "policy", "text", "seed", "sample_index", "provenance"})


def add_comparison(store: Store, job: Job, study: Study, sent: SentComparison) -> str:
    """Its id; of an annotator's own prompt it is theirs alone."""
    found = store.responses.get_many(sent.responses)
    own = job.kind == OWN_PROMPT
    fits = sent.origin in ORIGINS.get(job.kind, ())
    if not fits or len(found) != len(sent.responses) or {one.prompt for one in found.values()} != {sent.prompt}:
        raise BadUpload("A comparison is not of answers to one prompt of the job.")
    made = store.comparisons.add(
        study, sent.prompt, [found[ident] for ident in sent.responses], sent.origin,
        priority=OWN_PRIORITY if own else 0.0, asked_by=job.spec["annotator"] if own else None,
    )  # fmt: skip
    if made is None:
        raise BadUpload("A comparison has answers of one text alone.")
    return made.id


def may_choose(store: Store, job: Job, study: Study) -> bool:
    """Whether the job's policies answer the study's prompts from now on: it was told so, or nothing answers them yet."""
    trained = job.kind in ("sft", "ppo") and job.spec.get("sample_next", True)
    return bool(trained) or not store.studies.sampling_policies(study)


def add_scores(store: Store, job: Job, study: Study, effects: Effects) -> None:
    """Of a check alone, by its own reward model."""
    if not effects.scores and not effects.spot_checks:
        return
    if job.kind not in ("check", "reward"):
        raise BadUpload("Scores are what a check or a reward model makes, and nothing else.")
    folder = Path(job.spec["reward"]).resolve() if job.kind == "check" else (run_folder(job) or Path()) / ADAPTER
    reward = str(folder)
    scores = effects.scores.get(reward, {})
    looked_at = {ident for one in effects.spot_checks for ident in (one.response, one.baseline) if ident}
    if (scores.keys() | looked_at) - store.responses.get_many(scores.keys() | looked_at).keys():
        raise BadUpload("A score is of an answer that is not known here.")
    store.scores.add(reward, scores)
    for one in effects.spot_checks:
        store.spot_checks.add(study, one.kind, [(one.response, one.value, one.baseline)])
