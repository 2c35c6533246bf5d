"""The nouns of the loop as frozen records, and the ids that make a second import equal to the first.

Times are seconds since the epoch; ids are hex digests of what they identify.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
Tiers = list[list[str]]  # best tier first; ids inside one tier are tied

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
Role = Literal["annotator", "researcher", "admin"]
RankingKind = Literal["ranking", "skip", "withdrawal"]
Purpose = Literal["label", "repeat", "gold", "adjudication"]
Mode = Literal["ranking", "best-worst", "pairwise"]
Verdict = Literal["", "cannot_rank"]
PolicyKind = Literal["base", "sft", "ppo", "imported", "human"]

ROLES: tuple[Role, ...] = ("annotator", "researcher", "admin")
EQUAL = "equal"  # the origin of a comparison whose answers are all the same text: nobody ranks it, all are tied
HUMAN = "human"  # the name of the policy of what people wrote
LABELS: tuple[Purpose, ...] = ("label", "adjudication")  # what a study counts, exports and trains on


def content_id(*parts: object) -> str:
    """80 bits of SHA-256 over the canonical JSON of `parts`, as 20 hex digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def random_id() -> str:
    """80 random bits as 20 hex digits."""
    return secrets.token_hex(10)


@dataclass(frozen=True, slots=True)
class Study:
    """`k`: responses a comparison; `mode`: "ranking" (all of them, ties allowed), "best-worst" (the best and the worst
    of six or more first; the others too if the annotator likes) or "pairwise" (two responses and how much better one is).

    `plan`: the values of `preferences.plan.Plan`.
    """

    id: str
    name: str
    k: int
    mode: str = "ranking"
    plan: dict[str, Any] = field(default_factory=dict)
    status: Literal["active", "paused", "closed"] = "active"
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation whose last message is the user's. `cluster`: its near-duplicate group; `split` is per cluster."""

    id: str
    messages: list[Message]
    cluster: str
    split: Split
    source: str = ""
    language: str = ""
    tags: list[str] = field(default_factory=list)
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Something that answers prompts. `adapter`: folder of the LoRA adapter, or None for the plain base."""

    id: str
    name: str
    kind: PolicyKind
    base: str = ""
    quantization: str = "none"
    adapter: str | None = None
    parent: str | None = None
    data_hash: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    code_version: str = ""
    created: float = 0.0

    @staticmethod
    def of_people() -> "Policy":
        """The policy of what people wrote."""
        return Policy(content_id("policy", HUMAN), HUMAN, "human")


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled answer. `finish_reason`: "stop" (the model ended it) or "length" (cut at `max_new_tokens`)."""

    id: str
    prompt: str
    policy: str
    text: str
    seed: int = 0
    sample_index: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 0
    finish_reason: Literal["stop", "length"] = "stop"
    tokens: int = 0
    template_hash: str = ""
    created: float = 0.0

    @staticmethod
    def make(prompt: str, policy: str, text: str, seed: int, sample_index: int, **fields: Any) -> "Response":
        """A response whose id hashes prompt, text, policy, seed and sample index."""
        ident = content_id("response", prompt, text, policy, seed, sample_index)
        return Response(ident, prompt, policy, text, seed, sample_index, **fields)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Responses of one prompt to be ranked.

    `items`: the responses that are shown, in the record's own order, one for each distinct text;
    `same`: response id -> the shown item that has the same text (every response is a key);
    `asked_by`: the annotator who typed the prompt and alone ranks its answers, or None.
    """

    id: str
    study: str
    prompt: str
    items: list[str]
    same: dict[str, str]
    origin: str = "sampled"
    priority: float = 0.0
    created: float = 0.0
    asked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Annotator:
    """A person, or a simulated one, whose rankings leave exports unless asked for.

    `languages`: of the prompts they are given, as the prompts name them; [] for all.
    """

    id: str
    name: str
    role: Role
    password_hash: str = ""
    simulated: bool = False
    active: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    languages: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one annotator to rank one comparison until `expires`. `order`: item ids as shown.

    `purpose`: "label" (the comparison wants one), "repeat" (hidden: the annotator ranked it before, in the reversed
    order), "gold" (a good answer is known) or "adjudication" (the labels split over the top choice).
    """

    id: str
    comparison: str
    annotator: str
    order: list[str]
    created: float
    expires: float
    released: float | None = None
    purpose: Purpose = "label"


@dataclass(frozen=True, slots=True)
class Draft:
    """What an annotator has placed so far."""

    comparison: str
    annotator: str
    body: dict[str, Any]
    updated: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """One act of an annotator on one comparison; append-only.

    `tiers`: shown item ids, best tier first; ids of one tier are tied, except that with mode "best-worst" the middle one
    of three tiers holds those that were not compared with each other. `strengths`: for each tier but the last, how much
    better it is than the next: 1 negligibly, 2 slightly, 3 clearly, 4 much, or 0 if that was not said; or [].
    `flags`: item id -> names; the key `preferences.rankings.ALL_BAD` marks an answer that finds none acceptable and says
    no order: its one tier is no tie. `ratings`: item id -> 1 (worst) to 7. `rewrite`: the response `rewrite_of`, one of
    the best, as the annotator would have written it, or "".
    `verdict`, of a skip: "" (this annotator would not judge it) or "cannot_rank" (nobody could).
    `purpose`: its lease's; only "label" and "adjudication" are labels that the study counts, exports and trains on.
    """

    id: str
    comparison: str
    annotator: str
    kind: RankingKind
    tiers: Tiers
    order: list[str]
    nonce: str
    active_ms: int = 0
    strengths: list[Any] = field(default_factory=list)
    flags: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    rewrite: str = ""
    guideline: str | None = None
    supersedes: str | None = None
    created: float = 0.0
    purpose: Purpose = "label"
    mode: Mode = "ranking"
    verdict: Verdict = ""
    ratings: dict[str, int] = field(default_factory=dict)
    rewrite_of: str | None = None


@dataclass(frozen=True, slots=True)
class Guideline:
    """A version of a study's instructions to annotators (Markdown)."""

    id: str
    study: str
    version: int
    text: str
    created: float


@dataclass(frozen=True, slots=True)
class ConsentText:
    """A version of what annotators of a study agree to before their first task (Markdown)."""

    id: str
    study: str
    version: int
    text: str
    created: float


@dataclass(frozen=True, slots=True)
class Remark:
    """What an annotator tells the owner of a study; `comparison`: about which one, or None; `done`: since when, or None."""

    id: str
    study: str
    annotator: str
    comparison: str | None
    text: str
    created: float
    done: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the audit log."""

    id: int
    at: float
    actor: str
    kind: str
    subject: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A comparison an annotator may rank next. `labels`: of people (or simulated annotators, if the one who asks is
    simulated); `leases`: others of that kind ranking it now; `purpose`: "label" or "adjudication".
    """

    comparison: str
    split: Split
    priority: float
    labels: int
    leases: int
    created: float
    purpose: Purpose = "label"


@dataclass(frozen=True, slots=True)
class Offer:
    """All that an annotator could be given next.

    `repeats`: what they ranked long enough ago to be asked again; `golds`: gold that they have not seen;
    `qualifying`: whether they rank that first; `gold_share`: else the share of their tasks that is gold; `done`: how much
    they have ranked in the study.
    """

    candidates: list[Candidate]
    repeats: list[str] = field(default_factory=list)
    golds: list[str] = field(default_factory=list)
    qualifying: bool = False
    gold_share: float = 0.0
    done: int = 0


@dataclass(frozen=True, slots=True)
class Pick:
    """What an annotator is given."""

    comparison: str
    purpose: Purpose = "label"


@dataclass(frozen=True, slots=True)
class Gold:
    """A comparison whose good answer is known. `explanation`: why it is good, for newcomers (Markdown)."""

    comparison: str
    study: str
    tiers: Tiers
    explanation: str
    created: float


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """An answer that people are to look at. `kind`: why; `value`: how much of that it has; `baseline`: the response to the
    same prompt that it is held against, or None."""

    id: str
    study: str
    response: str
    kind: str
    value: float
    baseline: str | None
    created: float


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An annotator whose rankings a study does not count, from `since` until `lifted` (None: still)."""

    id: int
    study: str
    annotator: str
    reason: str
    actor: str
    since: float
    lifted: float | None
