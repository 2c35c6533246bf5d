"""The loop, unattended, on a tiny model and through the real server: the command that CI runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from preferences.store import Store
from scripts import rounds_report
from tests.conftest import ROOT
from tests.tiny import save_tiny_llama

INTERVAL = {"value", "low", "high"}
STAGES = {"sample", "rank", "reward", "ppo", "evaluate"}
ONCE = {"prompts", "sft"}
FIGURES = {"rankings", "reward", "judge", "kl", "seconds"}


def play(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """A fast round in that folder: what it wrote, and what it said."""
    report = folder / "round.json"
    command = [sys.executable, "-m", "scripts.loop", "--fast", "--json", report, "--out", folder / "round", *options]
    environment = {**os.environ, "RANKLOOP_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found, done.stdout


def check_figures(figures: dict[str, Any]) -> None:
    """One round's, in the shape that issue 2 fixed."""
    assert figures.keys() >= FIGURES
    assert figures["reward"].keys() == {"accuracy", "low", "high", "longer_wins", "shorter_wins", "ceiling"}
    assert figures["judge"].keys() == {"sft", "ppo", "difference"}
    assert all(estimate.keys() >= INTERVAL for estimate in figures["judge"].values())
    for estimate, value in [(figures["reward"], "accuracy"), *((e, "value") for e in figures["judge"].values())]:
        assert estimate["low"] <= estimate[value] <= estimate["high"]
    means = {name: figures["judge"][name]["value"] for name in ("sft", "ppo")}
    assert figures["judge"]["difference"]["value"] == pytest.approx(means["ppo"] - means["sft"])
    assert 0 < figures["reward"]["ceiling"] < 1
    assert figures["reward"]["longer_wins"] + figures["reward"]["shorter_wins"] == pytest.approx(1)


@pytest.mark.smoke
def test_two_fast_rounds(tmp_path: Path) -> None:
    result, said = play(tmp_path, "--rounds", "2", "--min-rankings", "20")
    first, second = result["rounds"]
    for figures in (first, second):
        check_figures(figures)
        assert figures["win_rate"].keys() >= INTERVAL
    assert {name: result[name] for name in FIGURES - {"seconds"}} == {
        name: second[name] for name in FIGURES - {"seconds"}
    }
    assert (first["seconds"].keys(), second["seconds"].keys()) == (ONCE | STAGES | {"blind"}, STAGES | {"blind"})
    assert result["seconds"]["ppo"] == pytest.approx(first["seconds"]["ppo"] + second["seconds"]["ppo"], abs=0.11)
    assert result["stopped"] is None and "round 2 of 2" in said

    store = Store(tmp_path / "round" / "round.db")
    study = store.studies.default()
    sft, ppo, again = (store.policies.get(name) for name in ("sft", "ppo", "ppo-2"))
    assert (ppo.parent, again.parent) == (sft.id, ppo.id), "the second round goes on from the first"
    references = {run.document["policy"]: run.document["reference"] for run in store.runs.all() if run.stage == "ppo"}
    assert references == {ppo.id: sft.id, again.id: sft.id}, "and stays near SFT"
    assert second["policies"]["against"] == "sft"
    promoted = [event.detail["policies"] for event in store.promotions.history(study)]
    assert promoted[-2:] == [[ppo.id], [again.id]] and store.studies.sampling_policies(study) == [again]

    learned = [run.document["rankings"] for run in store.runs.all() if run.stage == "reward"]
    assert learned[1] > learned[0], "the second reward model learns from the rankings of both rounds"
    of_policy = store.comparisons.policies_of([one.id for one in store.comparisons.all(study.id)])
    ranked = {ranking.comparison: ranking for ranking in store.rankings.current(study.id, simulated=True)}
    assert ranked.keys() == of_policy.keys(), "the blind ones too"
    assert {frozenset(names) for names in of_policy.values()} == {
        frozenset(names) for names in (["sft"], ["sft", "ppo"], ["ppo"], ["sft", "ppo-2"])
    }
    of_last = sum("ppo-2" in names for names in of_policy.values())
    assert first["rankings"] + second["rankings"] == len(ranked) - of_last, (
        "each counts what is new to its reward model"
    )
    report = (tmp_path / "round" / "report" / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 3 and "http" not in report
    for figures in (first, second):
        assert f"{figures['judge']['ppo']['value']:.3f} [{figures['judge']['ppo']['low']:.3f}" in report


@pytest.mark.slow
def test_a_fast_round_leaves_its_blind_comparisons_to_people(tmp_path: Path) -> None:
    result, _ = play(tmp_path)
    check_figures(result)
    made = json.loads((tmp_path / "round" / "ppo" / "config.json").read_text())["config"]
    assert (made["checkpointing"], made["value"]) == (False, "adapter")
    assert result["seconds"].keys() == ONCE | STAGES
    assert not result.keys() & {"rounds", "stopped", "win_rate"}

    store = Store(tmp_path / "round" / "round.db")
    study = store.studies.default()
    rankings = store.rankings.current(study.id, simulated=True)
    assert store.rankings.current(study.id) == []  # all simulated
    assert result["rankings"] == len(rankings)
    ranked = {ranking.comparison for ranking in rankings}
    comparisons = {comparison.id: comparison for comparison in store.comparisons.all(study.id)}
    by_split = {split: {c.id for c in store.comparisons.all(study.id, split)} for split in ("train", "heldout")}
    sft, ppo = store.policies.get("sft"), store.policies.get("ppo")

    def policies(ident: str) -> set[str]:
        return {response.policy for response in store.responses.get_many(comparisons[ident].same).values()}

    mixed = {ident for ident in comparisons if policies(ident) == {sft.id, ppo.id}}
    assert ranked == (by_split["train"] | by_split["heldout"]) - mixed and ranked & by_split["heldout"]
    assert all(policies(ident) == {sft.id} for ident in ranked)
    assert mixed and mixed <= by_split["heldout"]
    assert store.queue.waiting(study) == len(comparisons)  # for people: nobody simulated takes their places
    assert store.studies.sampling_policies(study) == [ppo]
    assert (ppo.kind, ppo.parent) == ("ppo", sft.id)
    assert {annotator.simulated for annotator in store.annotators.all()} == {True}


@pytest.mark.slow
def test_a_gate_stops_the_rounds_and_says_why(tmp_path: Path) -> None:
    result, said = play(tmp_path, "--rounds", "2", "--min-win-rate", "1")
    assert len(result["rounds"]) == 1
    why = "promotes what wins more than 100% with its whole interval (min_win_rate)"
    assert why in result["stopped"] and why in said
    store = Store(tmp_path / "round" / "round.db")
    assert [policy.name for policy in store.studies.sampling_policies(store.studies.default())] == ["sft"]
    assert why in (tmp_path / "round" / "report" / "report.html").read_text()


def estimate(value: float, width: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def test_the_report_shows_each_round_s_gold_score_with_its_interval(tmp_path: Path) -> None:
    def figures(ppo: float, wins: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "rankings": 256, "kl": 0.5, "seconds": {"ppo": 300.0}, **({"win_rate": wins} if wins else {}),
            "reward": {
                "accuracy": 0.7, "low": 0.6, "high": 0.8, "longer_wins": 0.4, "shorter_wins": 0.6, "ceiling": 0.8,
            },
            "judge": {"sft": estimate(1.8), "ppo": estimate(ppo), "difference": estimate(ppo - 1.8)},
        }  # fmt: skip

    rounds = [figures(2.0, None), figures(2.25, {"undefined": "nobody ranked"}), figures(2.5, estimate(0.625))]
    page = rounds_report.write(tmp_path, rounds, "Round 4 stops: <b>enough</b>.").read_text()
    for shown in ("2.000 [1.900, 2.100]", "2.250 [2.150, 2.350]", "2.500 [2.400, 2.600]", "+0.700 [+0.600, +0.800]"):
        assert shown in page
    assert "0.625 [0.525, 0.725]" in page and "Round 4 stops: &lt;b&gt;enough&lt;/b&gt;." in page
    assert {path.name for path in tmp_path.glob("*.png")} == {"gold.png", "gain.png", "reward.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))


@pytest.mark.slow
def test_a_thrifty_round_takes_the_model_that_is_named_and_little_memory(tmp_path: Path) -> None:
    model = save_tiny_llama(tmp_path / "named", width=32)
    check_figures(play(tmp_path, "--thrifty", "--model", str(model))[0])
    stages = {
        stage: json.loads((tmp_path / "round" / stage / "config.json").read_text())["config"]
        for stage in ("sft", "reward", "ppo")
    }
    assert all(made["checkpointing"] and made["model"] == str(model) for made in stages.values())
    assert (stages["sft"]["batch"], stages["ppo"]["value"]) == (1, "trunk")
