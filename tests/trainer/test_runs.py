"""What a run leaves in its folder."""

import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from preferences.errors import RankloopError
from tests.trainer.make import is_one_sentence
from trainer.models import Base
from trainer.runs import Run, RunExists, check_free


@dataclass(frozen=True)
class Config:
    """Options like a stage's."""

    out: Path
    lr: float = 1e-4


@pytest.fixture
def run(tmp_path: Path, base: Base) -> Run:
    """A run that has just started."""
    made = Run(tmp_path / "runs" / "one")
    made.start("reward", Config(made.folder), base, data_hash="abc", comparisons=3)
    return made


def test_the_start_says_what_decides_the_result(run: Run, base: Base) -> None:
    document = json.loads((run.folder / "config.json").read_text())
    assert document == run.config()
    assert document["stage"] == "reward"
    assert document["state"] == "started"
    assert document["config"] == {"out": str(run.folder), "lr": 1e-4}
    assert document["base"] == base.identity
    assert document["versions"]["torch"] == version("torch")
    assert document["versions"]["rankloop"] == version("rankloop")
    assert (document["data_hash"], document["comparisons"]) == ("abc", 3)
    assert abs(document["started"] - time.time()) < 60
    assert run.adapter == run.folder / "adapter"


def test_a_second_run_does_not_overwrite_the_first(run: Run, base: Base) -> None:
    before = run.config()
    with pytest.raises(RunExists) as error:
        Run(run.folder).start("sft", Config(run.folder), base)
    assert is_one_sentence(str(error.value))
    assert str(run.folder) in str(error.value)
    assert run.config() == before
    check_free(run.folder / "new")


def test_the_end_is_added_to_the_start(run: Run) -> None:
    before = run.config()
    run.finish("interrupted", iterations=2)
    found = run.config()
    assert found == {**before, "state": "interrupted", "iterations": 2, "ended": found["ended"]}
    assert found["ended"] >= found["started"]
    run.finish(mean=0.5)
    assert (run.config()["state"], run.config()["mean"]) == ("finished", 0.5)


def test_metrics_are_one_line_each(run: Run) -> None:
    run.log({"step": 1, "loss": 0.5, "note": "two\nlines"})
    run.log({"step": 2, "loss": 0.25})
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["note"] == "two\nlines"
    assert lines[0]["time"] <= lines[1]["time"]


def test_a_crash_while_writing_leaves_the_old_document(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.config()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RankloopError, match=r"no space left .*make room"):
        run.finish()
    assert run.config() == before
