"""What the ranking API answers, as its OpenAPI description has it. Only the tests hold it against what is sent."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from preferences.records import Mode


class Reply(BaseModel):
    """Nothing is sent that is not named."""

    model_config = ConfigDict(extra="forbid")


class Failure(Reply):
    """Every failure. `error`: a sentence; `saved`: what a nonce that was used before has stored."""

    error: str
    code: str
    saved: str | None = None


class Said(Reply):
    """A message of the prompt. `html`: the text as safe HTML."""

    role: str
    text: str
    html: str


class Shown(Reply):
    """A response, blind."""

    id: str
    text: str
    html: str


class Offered(Reply):
    """What may be said beside the order."""

    flags: list[str]
    strengths: bool
    rating: bool


class Task(Reply):
    """A comparison that is leased until `expires` (epoch seconds). `draft`: what was said of it so far."""

    comparison: str
    lease: str
    expires: float
    mode: Mode
    options: Offered
    prompt: list[Said]
    responses: list[Shown]
    draft: dict[str, Any] | None
    editing: bool
    warnings: list[str]


class Progress(Reply):
    """How much is ranked, and how much waits."""

    mine: int
    mine_today: int
    team: int
    waiting: int


class Page(Reply):
    """What is to be done next; `state`: if there is no task, why. `now`: the server's clock."""

    task: Task | None
    progress: Progress
    study: str | None
    state: Literal["ranking", "consent", "paused", "quota", "others", "unqualified", "excluded", "empty"]
    now: float


class Ahead(Reply):
    """What comes after the task in hand."""

    task: Task | None
    study: str | None


class Feedback(Reply):
    """The good answer to a gold comparison; `agreement`: the share of its pairs that were ordered likewise."""

    comparison: str
    tiers: list[list[str]]
    agreement: float | None
    html: str


class Answered(Reply):
    """`saved`: the id of the stored answer."""

    saved: str
    next: Page
    feedback: Feedback | None = None


class Undone(Reply):
    """`saved`: the id of the withdrawal, `undone`: of what it takes back."""

    saved: str
    undone: str
    next: Page


class Following(Reply):
    """The page after something that stores no answer."""

    next: Page


class Drafted(Reply):
    """`saved`: when; `expires`: the lease."""

    saved: float
    expires: float


class Renewed(Reply):
    """The lease, which may be another one, and when it ends; `now`: the server's clock."""

    lease: str
    expires: float
    now: float
