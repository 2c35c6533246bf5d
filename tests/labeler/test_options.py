"""Options from the browser against a stage's schema: every mistake is told, and nothing else passes."""

from typing import Any

import pytest

from labeler.options import BadOptions, completed
from tests.labeler.trained import STAGES

PPO, EVALUATE = STAGES["ppo"], STAGES["evaluate"]


def test_what_is_not_said_is_the_schemas_default() -> None:
    assert completed(PPO, {"iterations": 3, "kl_target": 6}) == {
        "study": None, "reward": None, "start": None, "iterations": 3, "kl_target": 6, "advantage": "gae",
        "checkpointing": False, "sample_next": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"functions": "x.py:f"}, "Stage ppo has no option 'functions'."),
        ({"iterations": 2.5}, "Option 'iterations' must be a whole number, not 2.5."),
        ({"iterations": True}, "Option 'iterations' must be a whole number, not True."),
        ({"iterations": None}, "Option 'iterations' must be a whole number, not None."),
        ({"kl_target": float("nan")}, "Option 'kl_target' must be a number or nothing, not nan."),
        ({"advantage": "best"}, "Option 'advantage' must be one of 'gae', 'rloo', not 'best'."),
        ({"checkpointing": 1}, "Option 'checkpointing' must be yes or no, not 1."),
        ({"reward": "x" * 1001}, "Option 'reward' must be a text or nothing"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOptions) as error:
        completed(PPO, options)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("wrong", ["ppo-1@4", ["ppo-1@4", 4], [None], ["x" * 1001], None, [["ppo-1@4"]]])
def test_several_texts_are_a_list_of_texts(wrong: Any) -> None:
    several = completed(EVALUATE, {"adapter": "/r", "also": ["ppo-1@4", "ppo-1@8"]})
    assert several["also"] == ["ppo-1@4", "ppo-1@8"] and completed(EVALUATE, {"adapter": "/r"})["also"] == []
    with pytest.raises(BadOptions, match="Option 'also' must be a list, not "):
        completed(EVALUATE, {"adapter": "/r", "also": wrong})
    with pytest.raises(BadOptions, match="Option 'adapter' must be a text"):
        completed(EVALUATE, {"adapter": ["/r"]})


def test_all_mistakes_are_told_at_once_and_what_is_needed_is_asked_for() -> None:
    needing = {**PPO, "required": ["reward"]}
    with pytest.raises(BadOptions) as error:
        completed(needing, {"speed": 9, "iterations": "many", "reward": ""})
    assert str(error.value).count(".") == 3 and "Option 'reward' is needed." in str(error.value)
