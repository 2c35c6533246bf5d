"""The sweep over the options of `trainer reward`: each is changed alone, on the same pairs; no held-out prompt is seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reward_datasets import FILES, frozen
from benchmarks.reward_options import (
    Benchmark,
    accuracy,
    better,
    by_dataset,
    changes_of,
    measure,
    print_markdown,
    table,
)
from preferences.errors import RankloopError
from preferences.records import content_id
from tests.tiny import save_tiny_llama
from tests.trainer.make import is_one_sentence

BASE: dict[str, Any] = {}


def run(seed: int, change: dict[str, Any], hits: Sequence[float], dataset: str = "ukp") -> dict[str, Any]:
    """A run as it is kept."""
    return {
        "dataset": dataset, "seed": seed, "change": change, "hits": hits, "updates": 4 + len(change),
        "processor_seconds": 30.0, "device": "cpu",
    }  # fmt: skip


def test_each_value_is_changed_alone() -> None:
    assert changes_of('{"lr": [1e-4, 2e-4], "layer": [null]}') == [{}, {"lr": 1e-4}, {"lr": 2e-4}, {"layer": None}]
    for sweep in ("{", '{"learning_rate": [1]}'):
        with pytest.raises(RankloopError) as error:
            changes_of(sweep)
        assert is_one_sentence(str(error.value))


def test_differences_are_from_the_base_setting_on_the_same_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose base setting is not there yet has an accuracy and no difference."""
    lr = {"lr": 1e-3}
    found: dict[str, Any] = {
        "settings": {"sets": 9},
        "changes": [BASE, lr, {"rank": 4}],
        "judged": {"ukp": {"0": ["p", "q"], "1": ["q", "r"]}, "lamp": {"0": ["p"]}},
        "runs": [run(0, lr, [1, 1]), run(0, BASE, [1, 0]), run(1, BASE, [1, 1]), run(1, lr, [0.5, 1])],
    }
    own = [one for one in found["runs"] if one["change"] == lr]
    assert better(found, own).value == pytest.approx((0 + 1 - 0.5 + 0) / 4) and better(found, own).n == 4
    found["runs"].append(run(0, lr, [0], "lamp"))
    own = [one for one in found["runs"] if one["change"] == lr]
    assert accuracy(found, own).value == pytest.approx(3.5 / 5) and better(found, own).n == 4
    assert [row[:2] for row in table(found)[1]] == [["base setting", "2"], ["lr 0.001", "3"]]
    assert by_dataset(found)[1][1][2] == "-"  # of lamp there is no base setting
    print_markdown(found)
    printed = capsys.readouterr().out
    assert "| base setting | 2 | 0.750 [" in printed and "|  | 4 | 30 |" in printed and "| 5 | 30 |" in printed


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A tiny model and two small sets of rankings of three answers."""
    (tmp_path / "data").mkdir()
    for name in ("ukp", "lamp"):
        lines = [
            {
                "prompt": [{"role": "user", "content": f"{name} {i}?"}],
                "responses": [{"text": f"Answer {i} {j}" + "!" * j} for j in range(3)],
                "annotations": [{"annotator": "a", "ranking": [[2], [1], [0]]}],
            }
            for i in range(12)
        ]
        (tmp_path / "data" / FILES[name]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {
        "json": tmp_path / "o.json", "data": tmp_path / "data", "datasets": ("ukp",), "seeds": 1, "heldout": 0.25,
        "model": str(save_tiny_llama(tmp_path / "model")), "options": '{"rank": 4}', "sweep": '{"epochs": [0]}',
    }  # fmt: skip


@pytest.mark.timeout(60)
def test_held_out_prompts_are_not_looked_at_and_a_second_call_goes_on(options: dict[str, Any]) -> None:
    first = measure(Benchmark(**options))
    records = frozen(options["data"] / FILES["ukp"], 400, 0.25, None)
    learnable = {content_id("prompt", r["prompt"]) for r in records if r["split"] == "train"}
    assert len(learnable) == 9 and set(first["judged"]["ukp"]["0"]) < learnable
    base, warm = first["runs"]
    assert (base["change"], warm["change"], base["sets"]) == ({}, {"epochs": 0}, 6)
    assert base["updates"] > warm["updates"] == 0 and len(base["hits"]) == len(warm["hits"]) == 9
    found = measure(Benchmark(**{**options, "sweep": '{"epochs": [0], "lr": [1e-3]}'}))
    assert found["runs"][:2] == first["runs"] and [one["change"] for one in found["runs"][2:]] == [{"lr": 1e-3}]
    assert json.loads(options["json"].read_text()) == found


@pytest.mark.slow
def test_runs_at_once_find_what_they_find_alone(options: dict[str, Any], tmp_path: Path) -> None:
    both = {**options, "datasets": ("ukp", "lamp"), "seeds": 2}
    alone = measure(Benchmark(**both))
    together = measure(Benchmark(**{**both, "json": tmp_path / "t.json", "at_once": 2}))
    assert together["judged"] == alone["judged"] and together["judged"]["ukp"]["0"] != together["judged"]["ukp"]["1"]

    def hits(found: dict[str, Any]) -> dict[str, Any]:
        return {str((one["dataset"], one["seed"], one["change"])): one["hits"] for one in found["runs"]}

    assert len(hits(alone)) == 8 and hits(together) == hits(alone)
