"""Changes of answers, and what a reward that falls for them is told."""

from collections.abc import Callable, Sequence

import pytest
import torch

from trainer.batches import Example
from trainer.models import Base
from trainer.ranked import Ranked
from trainer.robustness import CHECKS, as_list, bold, halved, padded, polite, repeated, sensitivity, within
from trainer.roles import Roles
from trainer.scoring import Scorer, response_example

TEXT = "Tea is hot. It comes from leaves!"


def test_what_each_change_does() -> None:
    assert padded(TEXT).startswith(TEXT) and len(padded(TEXT)) > len(TEXT) + 100
    assert as_list(TEXT) == "- Tea is hot.\n- It comes from leaves!"
    assert bold(TEXT) == "**Tea is** hot. **It comes** from leaves!"
    assert polite(TEXT).endswith(TEXT)
    assert repeated("a b") == "a b a b"
    assert halved("one two three four five") == "one two" and halved("one") == "one"
    assert as_list("") == "- " and bold("x") == "**x**"


class Judge(Scorer):
    """Scores texts by a rule."""

    def __init__(self, roles: Roles, rule: Callable[[str], float]) -> None:
        self.roles, self.rule, self.card = roles, rule, {}

    blocks = ("base",)  # type: ignore[assignment]

    def judge_all(self, examples: Sequence[Example], *_: object) -> tuple[list[float], list[float]]:  # type: ignore[override]
        texts = [self.roles.base.text(example.response) for example in examples]
        return [self.rule(text) for text in texts], [0.0] * len(examples)

    def judge(self, states: object, lengths: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def each(self, states: object, lengths: object) -> torch.Tensor:
        raise NotImplementedError

    def copy_as_value(self, role: str) -> None:
        raise NotImplementedError


@pytest.fixture
def ranked(base: Base) -> list[Ranked]:
    """Longer answers are preferred."""
    made = []
    for i in range(4):
        texts = [f"Tea number {i} is hot. It is from leaves.", f"Cold {i}. Yes. No. No.", "Hm. Hm."]
        examples = [response_example(base, [5], text, True) for text in texts]
        made.append(Ranked(str(i), examples, texts, [(0, 1, 1.0), (1, 2, 1.0)], []))
    return made


def found(base: Base, ranked: list[Ranked], rule: Callable[[str], float]) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in sensitivity(Judge(Roles(base), rule), ranked, 100, 1000)}


def test_a_reward_of_length_is_warned_of(base: Base, ranked: list[Ranked]) -> None:
    checks = found(base, ranked, lambda text: float(len(text)))
    assert set(checks) == {check.name for check in CHECKS} and len(checks) == 7
    for name in ("length padding", "repeated text", "a polite opening"):
        assert checks[name]["raised"] == 1.0 and checks[name]["warning"] != ""
    assert checks["length padding"]["flips"] == 1.0
    assert checks["an empty answer"]["raised"] == 0.0 and checks["an empty answer"]["warning"] == ""
    assert checks["a truncated answer"]["change"] < 0 and checks["a truncated answer"]["warning"] == ""


def test_a_reward_of_brevity_and_one_of_words(base: Base, ranked: list[Ranked]) -> None:
    brief = found(base, ranked, lambda text: -float(len(text)))
    assert brief["an empty answer"]["warning"] and brief["a truncated answer"]["warning"]
    assert "100% of the answers score higher" in str(brief["an empty answer"]["warning"])
    assert not brief["length padding"]["warning"]
    sound = found(base, ranked, lambda text: float("Tea" in text) + 0.5 * float("Cold" in text) - 9 * float(not text))
    assert not any(one["warning"] for name, one in sound.items() if name != "a truncated answer")
    assert sound["bold"]["change"] == 0 and sound["bold"]["flips"] == 0


def test_only_so_many_answers(ranked: list[Ranked]) -> None:
    assert len(within(ranked, 7)) == 2 and len(within(ranked, 1)) == 1
