"""The options of PPO beside each other: what counts, and one variant on a tiny round."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.ppo_options import COLUMNS, OptionsBenchmark, flags, measure, show, summary
from preferences.errors import RankloopError
from scripts.loop import Round, play
from tests.trainer.make import is_one_sentence


@pytest.mark.slow
def test_two_variants_on_a_tiny_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path / "cache"))
    played, out = tmp_path / "round", tmp_path / "options.json"
    play(Round(fast=True, out=played))
    before = (played / "round.db").read_bytes()
    sizes = {"iterations": 3, "episodes": 8, "tokens": 8}
    variants = ("defaults", "rloo, samples 4")
    measure(OptionsBenchmark(round=played, model=str(played / "tiny"), json=out, variants=variants, **sizes))
    found = json.loads(out.read_text())
    assert [row["variant"] for row in found["rows"]] == list(variants)
    for row in found["rows"]:
        assert set(COLUMNS) < set(row) and row["cpu_seconds"] > 0 and row["peak_mb"] > 100
    assert found["rows"][0]["explained_variance"] != 0 and found["rows"][1]["explained_variance"] == 0
    assert [len(run["iterations"]) for run in found["runs"]] == [3, 3]
    capsys.readouterr()
    monkeypatch.setattr(
        "benchmarks.ppo_options.run", lambda *_: pytest.fail("what was measured before was measured again")
    )
    config = OptionsBenchmark(round=played, model=str(played / "tiny"), json=out, variants=variants, **sizes)
    assert measure(config) == found
    other = shutil.copytree(played, tmp_path / "other")
    with pytest.raises(RankloopError, match="other options"):
        measure(replace(config, round=other))
    show(found)
    assert "rloo, samples 4" in capsys.readouterr().out
    assert (played / "round.db").read_bytes() == before  # the runs had a database of their own


def test_only_the_last_iterations_count() -> None:
    lines = [
        {
            "objective/scores": i, "objective/kl": 2 * i, "val/eos_rate": 1, "val/explained_variance": -1,
            "seconds/peak_memory_mb": 10 + i,
        }
        for i in range(5)
    ]  # fmt: skip
    assert summary(lines) == {
        "first_score": 0, "scores": 3, "kl": 6, "eos_rate": 1, "explained_variance": -1, "peak_mb": 14,
    }  # fmt: skip


def test_options_become_flags() -> None:
    assert flags({"normalise": True, "top_layers": 3, "lr": 2e-4}) == [
        "--normalise",
        "--top-layers",
        "3",
        "--lr",
        "0.0002",
    ]


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    OptionsBenchmark(markdown=True)
    with pytest.raises(RankloopError, match="--round"):
        OptionsBenchmark()
    for wrong in ({}, {"variants": ("best",)}, {"iterations": 2}):
        with pytest.raises(RankloopError) as error:
            OptionsBenchmark(round=tmp_path, **wrong)  # type: ignore[arg-type]
        assert is_one_sentence(str(error.value))
