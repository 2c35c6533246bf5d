"""The trainer's work as frozen records: jobs, who does them, and the runs that come of them.

Times are seconds since the epoch.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Job:
    """Work for `trainer worker`. `heartbeat`: when its worker was last known to be alive."""

    id: str
    kind: str
    spec: dict[str, Any]
    status: Literal["queued", "running", "done", "failed", "cancelled"] = "queued"
    progress: dict[str, Any] = field(default_factory=dict)
    worker: str | None = None
    heartbeat: float | None = None
    error: str = ""
    created: float = 0.0
    started: float | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A `trainer worker`. `about`: its model and device, and what it can be asked to do; `seen`: when it was last alive."""

    name: str
    about: dict[str, Any]
    started: float
    seen: float


@dataclass(frozen=True, slots=True)
class WorkerToken:
    """What lets a worker on another host in. `used`: when it last did; `revoked`: since when it does not, or None."""

    id: str
    name: str
    created: float
    used: float | None = None
    revoked: float | None = None


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A training run that has ended. `folder`: where it is; `document`: its config.json."""

    id: str
    stage: str
    folder: str
    study: str | None
    document: dict[str, Any]
    updated: float
