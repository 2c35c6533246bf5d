"""The config.json of a run on another host, as pages can rely on it."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labeler.bodies import Text
from labeler.outcomes import Estimate
from labeler.uploads import whole_file
from preferences.errors import BadUpload
from preferences.jobs import Job
from preferences.records import Study
from preferences.store import Store

MOST_BYTES = 500_000
Words = Annotated[Text, Field(max_length=4096)]


class BaseFacts(BaseModel):
    """What a run was made on."""

    model_config = ConfigDict(extra="allow", strict=True)
    base: Words
    quantization: Words


class RunDocument(BaseModel):
    """What pages read of it; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True)
    stage: Words
    state: Words
    config: dict[str, Any]
    base: BaseFacts
    versions: dict[str, Words]
    study: Words | None = None
    policy: Words | None = None
    judged_by: Words | None = None
    command: list[Words] | None = None
    error: Words | None = None
    heldout_accuracy: Estimate | None = None


def checked_document(store: Store, job: Job, out: Path, study: Study, document: dict[str, Any]) -> dict[str, Any]:
    """The document, if it is that of this job's run. Raises BadUpload."""
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise BadUpload("The run's config.json has a number or half a character that no page can show.") from error
    try:
        found = RunDocument.model_validate(document)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BadUpload(f"The run's {place} is not as a run says it.") from error
    if found.stage != job.kind or found.study not in (None, study.id):
        raise BadUpload("The run is another stage's, or another study's, than the job.")
    policy = store.policies.find(found.policy) if found.policy else None
    if policy and policy.adapter and not Path(policy.adapter).is_relative_to(out):
        raise BadUpload("The run says that it made another run's policy.")
    return document


def write_document(path: Path, document: dict[str, Any]) -> None:
    """In the place of an earlier one, at once. Raises BadUpload."""
    data = json.dumps(document, indent=1).encode()
    if len(data) > MOST_BYTES:
        raise BadUpload("The run's config.json is too large.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(data + b"\n")
