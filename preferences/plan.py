"""How a study shares out its comparisons: the numbers of its plan, and the seeded draws that follow from them.

Pure. Which comparisons are shared, repeated or come first among the gold depends on the plan's seed and on the
comparison alone, so that it can be recomputed and is the same whoever asks, and when.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from preferences.errors import RankloopError
from preferences.records import Split


class BadPlan(RankloopError):
    """A study's plan has values that cannot be; the message has one sentence for each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study wants of its annotators, and what its board offers them."""

    labels_train: int = 1
    """People who rank a comparison of a training prompt."""
    shared: float = 0.15
    """Share of the training comparisons that more people rank, so that their agreement is known."""
    labels_shared: int = 3
    """People who rank a shared comparison."""
    labels_heldout: int = 3
    """People who rank a comparison of a held-out prompt."""
    adjudicate: bool = True
    """Whether one more person ranks a comparison whose labels split over the best response."""
    repeats: float = 0.04
    """Share of the comparisons that whoever ranked them ranks again later, shown in the reversed order."""
    repeat_gap: int = 20
    """How many others an annotator ranks between the first time and the repeat, at least."""
    qualification: int = 10
    """How many of the gold comparisons a newcomer ranks first, with explanations; the others come unnoticed later."""
    gold_pass: float = 0.75
    """The share of those gold pairs that a newcomer must order as the gold does."""
    gold: float = 0.05
    """The share of an annotator's later tasks that are gold, unnoticed, while there is gold that they have not seen."""
    quota: int = 0
    """The most that one annotator ranks in the study; 0 is no limit."""
    quota_day: int = 0
    """The most that one annotator ranks in it in a day; 0 is no limit."""
    seed: int = 0
    """Of every draw."""
    flags: list[str] | None = None
    """The flags that a response can get; by default those of the board."""
    strengths: bool = False
    """Whether annotators may say how much better each rank is than the next."""
    rating: bool = False
    """Whether annotators may rate each response from 1 to 7."""
    own_prompts: bool = False
    """Whether annotators may type prompts of their own."""
    content_warnings: dict[str, str] | None = None
    """Topics that annotators are warned of and may opt out of: a prompt's tag -> what to expect."""
    on_erase: str = "keep"
    """What becomes of the rankings of somebody who is erased: "keep" (nobody's name stands there any more) or "delete"."""
    retention_days: int = 0
    """After how many days without an act of theirs annotators are erased; 0 is never."""
    min_rankings: int = 0
    """Gate: rankings since the last reward model without which no other one is trained; 0 is no gate."""
    min_accuracy: float = 0.0
    """Gate: the held-out accuracy without which PPO is not trained on a reward model; 0 is no gate."""
    min_win_rate: float = 0.0
    """Gate: what the whole interval of a PPO policy's blind win rate must lie above before it is promoted; 0 is no gate."""

    @staticmethod
    def of(given: Mapping[str, Any]) -> "Plan":
        """The plan with those values and the defaults for the others. Raises BadPlan, for all mistakes at once."""
        mistakes = [f"A plan has no {name!r}; it has {', '.join(DEFAULTS)}." for name in given if name not in DEFAULTS]
        mistakes += [
            sentence
            for name, value in given.items()
            if name in DEFAULTS and (sentence := _mistake(name, value, DEFAULTS[name]))
        ]
        if mistakes:
            raise BadPlan(" ".join(mistakes))
        return Plan(**given)

    def as_dict(self) -> dict[str, Any]:
        """What is stored: every value but those that the board decides."""
        return {name: value for name, value in asdict(self).items() if value is not None}


DEFAULTS = {field.name: field.default for field in fields(Plan)}
CHOICES = {"on_erase": ("keep", "delete")}
SHARES = ("shared", "repeats", "gold_pass", "gold", "min_accuracy", "min_win_rate")


def _mistake(name: str, value: Any, default: Any) -> str | None:
    """One sentence about a value that cannot be, or None."""
    low, high = (1, 1000) if name.startswith("labels_") else (0, 10**9)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "flags":
        right, words = isinstance(value, list) and all(isinstance(flag, str) for flag in value), "a list of names"
    elif name == "content_warnings":
        right = isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
        words = "an object of tags and texts"
    elif name in CHOICES:
        right, words = value in CHOICES[name], " or ".join(map(repr, CHOICES[name]))
    elif isinstance(default, bool):
        right, words = isinstance(value, bool), "true or false"
    elif name in SHARES:
        right, words = number and 0 <= value <= 1, "a share from 0 to 1"
    else:
        right, words = (
            number and isinstance(value, int) and low <= value <= high,
            f"a whole number from {low} to {high}",
        )
    return None if right else f"The plan's {name!r} must be {words}, not {value!r}."


def draw(*parts: object) -> float:
    """A number from [0, 1) that depends on the parts alone, as if drawn uniformly for each."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def is_shared(plan: Plan, comparison: str) -> bool:
    """Whether a training comparison is one of those that more people rank."""
    return draw("shared", plan.seed, comparison) < plan.shared


def is_repeated(plan: Plan, comparison: str) -> bool:
    """Whether those who rank the comparison rank it again later."""
    return draw("repeat", plan.seed, comparison) < plan.repeats


def labels_wanted(plan: Plan, comparison: str, split: Split, own: bool = False) -> int:
    """How many people should rank the comparison, adjudication aside; whoever typed its prompt, if `own`, does so alone."""
    if own:
        return 1
    if split == "heldout":
        return plan.labels_heldout
    return max(plan.labels_train, plan.labels_shared) if is_shared(plan, comparison) else plan.labels_train


def gold_phases(plan: Plan, golds: Iterable[str]) -> tuple[list[str], list[str]]:
    """The gold comparisons of the qualification, in order, and those that come unnoticed later, in order."""
    order = sorted(golds, key=lambda comparison: (draw("gold", plan.seed, comparison), comparison))
    return order[: plan.qualification], order[plan.qualification :]
