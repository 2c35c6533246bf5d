"""The command of a run: parsed, it is the run's own options, in another folder."""

from pathlib import Path
from typing import Any

import pytest

from trainer.__main__ import obey
from trainer.command import command_of
from trainer.ppo import Ppo
from trainer.reward import Reward
from trainer.sft import Sft


@pytest.mark.parametrize(
    ("stage", "config"),
    [
        ("sft", Sft(out=Path("/runs/s"), sample_next=False, checkpointing=True, epochs=3, name="mine", study="main")),
        (
            "reward",
            Reward(out=Path("/runs/r"), model="m", bagging=False, members=3, ties="half", include_simulated=True),
        ),
        ("ppo", Ppo(out=Path("/runs/p"), reward=Path("/r/adapter"), functions=("a:b", "c:d=2"), kl_target=6.0, seed=4)),
        ("ppo", Ppo(resume=Path("/runs/p"), reward=Path("/r/adapter"), start="sft")),
    ],
)
def test_the_words_say_the_options(stage: str, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = command_of(stage, config, "int8", "the parent" if stage == "ppo" else None)
    assert words[:2] == ["trainer", stage]
    seen: list[Any] = []
    monkeypatch.setattr("trainer.__main__.result_of", lambda command: seen.append(command) or {})
    obey(words[1:])
    (found,) = seen
    expected = {name: getattr(config, name) for name in config.__dataclass_fields__}
    expected |= {
        "quantize": "int8",
        "out": Path(f"{config.out or config.resume}-again"),
        "db": Path("rankloop.db").resolve(),
    }
    if expected.get("name"):
        expected["name"] += "-again"
    if stage == "ppo":
        expected |= {"start": "the parent", "resume": None}
    if stage == "sft":
        expected["demonstrations"] = config.demonstrations
    assert {name: getattr(found, name) for name in expected} == expected
