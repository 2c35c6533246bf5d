"""What a run shows: the live table on a terminal, the same answers again and again, and a tracker's files."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trainer.models import Base
from trainer.ppo import Ppo
from trainer.runs import Run
from trainer.screen import COLUMNS, Screen

METRICS: dict[str, Any] = {name: 0.25 for _, name, _ in COLUMNS} | {"objective/scores": 1.25, "objective/kl": 3.5}


@pytest.fixture
def run(base: Base, tmp_path: Path) -> tuple[Run, Ppo]:
    """A run that has begun."""
    config = Ppo(db=tmp_path / "db", out=tmp_path / "run", functions=("a:b",), iterations=20)
    run = Run(config.folder)
    run.start("ppo", config, base)
    return run, config


def terminal() -> Console:
    """Wide, and a terminal as far as rich can see."""
    return Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)


def test_the_live_table(run: tuple[Run, Ppo]) -> None:
    console = terminal()
    with Screen(*run, done=0, console=console) as screen:
        for done in range(1, 16):
            screen.show(done, {**METRICS, "objective/kl": done / 10})
        look = {"prompt": "[bold]Hi", "reference": "[b] before", "response": "[/x] there", "score": 1.0, "kl": 0.5}
        screen.samples(15, [look])
    said = console.file.getvalue()  # type: ignore[attr-defined]
    last = said[said.rindex("rollout ") :]
    assert all(title.split()[0] in said for title, _, _ in COLUMNS)
    assert "15/20" in last and "1.50" in last and " 3/20" not in last, "the newest twelve stay"
    assert "min to go" in last
    assert "[bold]Hi" in said and "[b] before" in said and "[/x] there" in said, "a model's text is shown, not obeyed"


def test_elsewhere_there_is_a_bar(run: tuple[Run, Ppo], capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(*run, done=4) as screen:
        screen.show(5, METRICS)
        screen.samples(5, [{"prompt": "Hi", "reference": "Ho", "response": "there", "score": 1.0, "kl": 0.5}])
    said = capsys.readouterr()
    assert "5/20" in said.err and "kl=3.50" in said.err and said.out == ""
    logged = json.loads((run[0].folder / "samples.jsonl").read_text())
    assert (logged["step"], logged["samples"][0]["response"]) == (5, "there")


def test_a_tracker_gets_the_numbers(base: Base, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = Ppo(db=tmp_path / "db", out=tmp_path / "run", functions=("a:b",), tracker="tensorboard")
    run = Run(config.folder)
    run.start("ppo", config, base)
    with Screen(run, config, done=0) as screen:
        screen.show(1, {**METRICS, "text": "not a number"})
        screen.show(2, {**METRICS, "objective/kl": 4.5})
    events = EventAccumulator(str(run.folder / "rankloop")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("objective/kl")] == [(1, 3.5), (2, 4.5)]
    assert "text" not in events.Tags()["scalars"]
