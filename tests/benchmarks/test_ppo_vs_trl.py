"""The comparison with TRL: our side of it on a tiny model, and what stops it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peer_environments import RECORD, NoPeer, call, python_of
from benchmarks.peers.rewards import short_words
from benchmarks.ppo_results import OURS, OURS_4
from benchmarks.ppo_vs_trl import Benchmark, measure
from preferences.errors import RankloopError
from tests.tiny import save_tiny_llama
from tests.trainer.make import is_one_sentence


@pytest.mark.slow
def test_our_side_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path / "cache"))
    model, out = save_tiny_llama(tmp_path / "model"), tmp_path / "b.json"
    sizes = {"alternations": 1, "updates": 2, "episodes": 8, "micro_batch": 8, "new_tokens": 5, "epochs": 2, "rank": 4}
    config = Benchmark(json=out, quick=True, model=str(model), contestants=(OURS, OURS_4), **sizes)
    measured = measure(config)
    found = json.loads(out.read_text())
    assert [run["contestant"] for run in measured.runs] == [OURS, OURS_4]
    for run in found["runs"]:
        assert len(run["updates"]) == 2 and all(row["seconds"] > 0 for row in run["updates"])
        assert set(run["updates"][0]["phases"]) == {"generate", "score", "train"}
        assert run["peak_rss_mb"] > 100 and run["reward_pass_seconds"] > 0 and len(run["load_average"]) == 2
    assert found["workload"]["counted_updates"] == [2] and found["workload"]["episodes"] == 8
    found["runs"].pop()
    out.write_text(json.dumps(found))
    again = measure(config)
    assert again.runs[0] == found["runs"][0], "what was measured before was measured again"
    assert [run["contestant"] for run in again.runs] == [OURS, OURS_4]
    with pytest.raises(RankloopError, match="other options"):
        measure(replace(config, epochs=3))


def test_what_cannot_be_compared_is_refused() -> None:
    for wrong in ({"contestants": ("trlx",)}, {"updates": 1}, {"alternations": 0}, {"episodes": 30, "micro_batch": 8}):
        with pytest.raises(RankloopError) as error:
            Benchmark(**wrong)  # type: ignore[arg-type]
        assert is_one_sentence(str(error.value))


def test_an_environment_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr("benchmarks.peer_environments.call", lambda command, _: commands.append(command))
    (tmp_path / "peer").mkdir()
    for _ in range(2):
        assert python_of("peer", ("a==1", "b==2"), tmp_path) == tmp_path / "peer" / "bin" / "python"
    assert len(commands) == 2 and commands[0][2] == "venv" and {"a==1", "b==2"} < set(commands[1])
    assert "torch==" in (tmp_path / "peer" / RECORD).read_text()
    python_of("peer", ("a==1", "b==3"), tmp_path)
    assert len(commands) == 4


def test_an_environment_that_cannot_be_built_is_one_sentence() -> None:
    with pytest.raises(NoPeer, match="no such wheel") as error:
        call([sys.executable, "-c", "import sys; sys.exit('first line\\nno such wheel')"], "peer")
    assert is_one_sentence(str(error.value))
    with pytest.raises(NoPeer, match="nothing said"):
        call([sys.executable, "-c", "raise SystemExit(1)"], "peer")


def test_short_words() -> None:
    assert short_words(["a bold cat ran", "an elephant", "", "1 2 !"]) == [5.0, 0.0, -5.0, -5.0]
    assert short_words(["elephants wandering"]) == [-5.0]
