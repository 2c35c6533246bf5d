"""`trainer report` of PPO runs: what it says is what can be counted again, and the files need nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from preferences.errors import RankloopError
from preferences.records import Response, Study
from preferences.store import Store
from tests.trainer.fill import add_policy, add_prompts, annotator, rank, save_adapter
from tests.trainer.test_main import call
from trainer.budget import sampling_budget
from trainer.metrics import distinct_runs
from trainer.models import Base, load_base
from trainer.ppo import Ppo, ppo
from trainer.ppo_report import Material, at_matched_length, document_of, warnings_of
from trainer.report import Report, options_of, report
from trainer.roles import Roles
from trainer.rollout import Sampling, generate
from trainer.runs import Run

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="session")
def adapters(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A policy and a reward model on the tiny Llama."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "sft": save_adapter(llama_folder, folder / "sft", scale=0.2),
        "reward": save_adapter(llama_folder, folder / "reward", seed=2, head=True),
    }


@pytest.fixture
def trained(
    store: Store, study: Study, base: Base, llama_folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> Path:
    """A run of four iterations with two adapters on the way, whose last one people like less than the start."""
    add_prompts(store, study, 8)
    held = add_prompts(store, study, 6, "heldout")
    add_policy(store, study, base, adapters["sft"])
    options = {
        "db": store.path, "out": tmp_path / "ppo", "reward": adapters["reward"], "iterations": 4, "episodes": 6,
        "max_new_tokens": 8, "lr": 3e-2, "value_lr": 1e-3, "snapshots": 2, "model": str(llama_folder), "seed": 5,
    }  # fmt: skip
    ppo(Ppo(**options), store, base)
    for prompt in held:
        duel(store, study, prompt)
    return tmp_path / "ppo"


def duel(store: Store, study: Study, prompt: Any) -> None:
    """A blind comparison that the start wins."""
    ids = {name: store.policies.get(name).id for name in ("sft", "ppo")}
    answers = [Response.make(prompt.id, ident, f"{name} says so.", 1, 0) for name, ident in ids.items()]
    store.responses.add(answers)
    made = store.comparisons.add(study, prompt.id, answers, origin="blind")
    assert made is not None
    for name in ("ann", "ben", "cem"):
        rank(store, made, [[0], [1]], annotator(store, name))


def test_adapters_are_kept_on_the_way_as_policies(
    trained: Path, store: Store, study: Study, llama_folder: Path
) -> None:
    names = [policy.name for policy in store.policies.all()]
    assert names == ["sft", "ppo", "ppo@1", "ppo@3"]
    assert [policy.name for policy in store.studies.sampling_policies(study)] == ["ppo"]
    one = store.policies.get("ppo@3")
    assert one.parent == store.policies.get("sft").id and one.config["iteration"] == 3
    assert [each["name"] for each in Run(trained).config()["snapshots"]] == ["ppo@1", "ppo@3"]
    roles = Roles(load_base(str(llama_folder), "none"))
    weights = []
    for number, folder in enumerate((Path(str(one.adapter)), trained / "adapter")):
        roles.load(f"role-{number}", folder)
        weights.append(torch.cat([p.flatten() for p in roles.parameters(f"role-{number}")]))
    assert not torch.equal(*weights)


def test_what_the_report_says(trained: Path, store: Store, llama_folder: Path) -> None:
    result = report(Report(run=trained))
    folder = trained / "report"
    numbers = json.loads((folder / "report.json").read_text())
    points = {point["name"]: point for point in numbers["points"]}
    assert list(points) == ["sft", "ppo@1", "ppo@3", "ppo"]
    assert [point["iteration"] for point in points.values()] == [0, 1, 3, 4]
    assert points["sft"]["kl"]["value"] == pytest.approx(0, abs=1e-4)
    assert points["sft"]["difference"]["value"] == 0 and points["ppo"]["kl"]["value"] > 1e-3
    assert {point["score"]["n"] for point in points.values()} == {6}
    assert numbers["seed"] == 5 and len(numbers["logged"]) == 4
    assert set(numbers["hashes"]) == {"adapter", "tokenizer", "reward", "rankings of the reward"}
    # People saw the last one alone, and liked it less.
    assert points["ppo"]["people"]["value"] == 0 and "undefined" in points["ppo@1"]["people"]
    assert numbers["recommended"]["name"] != "ppo"
    assert result["recommended"] == numbers["recommended"]
    # The answers of one checkpoint drawn and scored again, another way.
    roles = Roles(load_base(str(llama_folder), "none"))
    roles.load("again", trained / "snapshots" / "000003")
    prompts = store.prompts.all("heldout")
    ids = [roles.base.prompt_ids(prompt.messages) for prompt in prompts]
    drawn = generate(roles, "again", ids, [(5, 3, i) for i in range(6)], Sampling(0.8, 1.0, 8), sampling_budget(4096))
    assert points["ppo@3"]["length"]["value"] == pytest.approx(np.mean([len(sample.ids) for sample in drawn]))
    assert points["ppo@3"]["distinct"]["2"] == pytest.approx(distinct_runs([sample.ids for sample in drawn], 2))
    entropy = -sum(sum(sample.logprobs) for sample in drawn) / sum(len(sample.ids) for sample in drawn)
    assert points["ppo@3"]["entropy"] == pytest.approx(entropy, rel=1e-4)
    gains = np.array(numbers["scores"]["ppo@3"]) - np.array(numbers["scores"]["sft"])
    assert points["ppo@3"]["difference"]["value"] == pytest.approx(gains.mean())
    changed = [one["change"] for one in numbers["changes"]]
    assert changed == sorted(changed, reverse=True) and len(changed) == 6
    look(folder, result["pictures"], {"frontier", "matched", "wins", "prompts", "diversity", "training", "cost"})


def look(folder: Path, pictures: list[str], expected: set[str]) -> None:
    """Every picture is one, and is in the page, which needs nothing else."""
    assert {Path(path).stem for path in pictures} == expected
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200 and len(set(picture.convert("L").getdata())) > 10
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(expected)
    text = re.sub(r"base64,[^']*", "", page)
    assert "<script" not in text and not re.search(r"(src|href)='(?!data:)", text) and "http" not in text


def test_a_later_round_is_reported_against_the_sft_policy(trained: Path, store: Store, llama_folder: Path) -> None:
    options = options_of(Run(trained).config(), Ppo)
    more = {"out": trained.with_name("second"), "iterations": 1, "snapshots": 0, "lr": 1e-6}
    ppo(replace(options, **more), store, load_base(str(llama_folder), "none"))
    report(Report(run=trained.with_name("second"), prompts=3))
    numbers = json.loads((trained.with_name("second") / "report" / "report.json").read_text())
    assert [point["name"] for point in numbers["points"]] == ["sft", "second"] and numbers["start"] == "sft"
    assert numbers["points"][1]["kl"]["value"] > 1e-3, "how far the first round went"
    assert any("went on from ppo" in note for note in numbers["notes"])


def test_runs_beside_each_other_on_the_command_line(
    trained: Path, store: Store, llama_folder: Path, adapters: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = {"iterations": 1, "episodes": 4, "max_new_tokens": 8, "snapshots": 0, "start": "sft", "lr": 1e-3}
    other = Ppo(db=store.path, out=tmp_path / "other", reward=adapters["reward"], model=str(llama_folder), **options)  # type: ignore[arg-type]
    ppo(other, store, load_base(str(llama_folder), "none"))
    capsys.readouterr()
    assert call("report", trained, tmp_path / "other", "--prompts", "3", "--out", tmp_path / "both", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["runs"]) == {"ppo", "other"}
    assert [point["name"] for point in result["runs"]["other"]["points"]] == ["sft", "other"]
    # The same start, prompts and random numbers but for the seed.
    assert {len(run["points"]) for run in result["runs"].values()} == {4, 2}
    look(tmp_path / "both", result["pictures"], {"frontier", "training", "cost"})
    page = (tmp_path / "both" / "report.html").read_text()
    assert "<td class=''>iterations</td>" in page and "different rewards" not in page


def test_what_cannot_be_reported(
    store: Store, study: Study, base: Base, adapters: dict[str, Path], tmp_path: Path
) -> None:
    add_prompts(store, study, 4)
    add_policy(store, study, base, adapters["sft"])
    for stage in ("sft", "ppo"):
        run = Run(tmp_path / stage)
        run.start(stage, Report(run=tmp_path), base)
    for folders, sentence in (
        (["sft"], "holds a sft run; give the folder of a reward run, or one or several of PPO runs"),
        (["ppo", "sft"], "holds a sft run"),
        (["ppo"], "is started; let it end, or go on with --resume"),
        (["none"], "holds no run"),
    ):
        first, *others = (tmp_path / name for name in folders)
        with pytest.raises(RankloopError, match=sentence):
            report(Report(run=first, others=tuple(others)))
    ppo(
        Ppo(
            db=store.path, out=tmp_path / "short", reward=adapters["reward"], iterations=1, episodes=4, max_new_tokens=4
        ),
        store,
        base,
    )
    with pytest.raises(RankloopError, match="has fewer than two held-out prompts"):
        report(Report(run=tmp_path / "short"))
    with pytest.raises(RankloopError, match="prompts must be at least 2, not 1"):
        Report(run=tmp_path, prompts=1)


def test_functions_and_the_plain_base(
    store: Store, study: Study, base: Base, llama_folder: Path, tmp_path: Path
) -> None:
    """No reward model, no SFT adapter: scores are the functions', the start is the base."""
    add_prompts(store, study, 4)
    prompts = add_prompts(store, study, 3, "heldout")
    file = tmp_path / "rewards.py"
    file.write_text("def longer(prompts, responses):\n    return [float(len(r)) for r in responses]\n")
    options = Ppo(
        db=store.path, out=tmp_path / "ppo", functions=(f"{file}:longer=2",), iterations=1, episodes=4, max_new_tokens=6,
        rank=4, model=str(llama_folder),
    )  # fmt: skip
    ppo(options, store, base)
    run = Run(tmp_path / "ppo")
    again = options_of(run.config(), Ppo)
    assert again.functions == options.functions and again.out == options.out
    start = store.policies.get(run.config()["parent"])
    assert start.kind == "base"
    material = Material(run, again, start, load_base(str(llama_folder), "none"), 4096)
    first, last = material.draw(prompts)
    assert first.scores.tolist() == [2.0 * len(text) for text in first.answers.texts]
    found = document_of(material, prompts, {})
    assert found["points"][0]["kl"]["value"] == pytest.approx(0, abs=1e-4) and len(last.scores) == 3


def test_matched_length_is_a_least_squares_line() -> None:
    rng = np.random.default_rng(0)
    doublings = rng.normal(0.5, 1, 80)
    gaps = 0.3 + 0.8 * doublings + rng.normal(0, 0.5, 80)
    slope, level = np.polyfit(doublings, gaps, 1)
    found = at_matched_length(gaps, doublings)
    assert found["value"] == pytest.approx(level) and slope > 0.5
    assert found["low"] < 0.3 < found["high"] and found["high"] - found["low"] < 0.5
    assert at_matched_length(gaps, np.zeros(80))["value"] == pytest.approx(gaps.mean())
    assert "same factor" in at_matched_length(gaps, np.ones(80))["undefined"]


def numbers(value: float, margin: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - margin, "high": value + margin, "n": 9}


def test_what_the_numbers_warn_of() -> None:
    start = {
        "name": "sft", "difference": numbers(0, 0), "matched": numbers(0, 0), "distinct": {"2": 0.9}, "length": numbers(20),
        "eos_rate": 0.9, "people": {"undefined": "nobody"},
    }  # fmt: skip
    good = {**start, "name": "good", "difference": numbers(0.5), "matched": numbers(0.4)}
    assert warnings_of([start, good], "good") == []
    bad = {
        **good, "name": "bad", "matched": numbers(0.05), "distinct": {"2": 0.5}, "length": numbers(40), "eos_rate": 0.5,
        "people": numbers(0.3),
    }  # fmt: skip
    found = warnings_of([start, good, bad], None)
    assert len(found) == 5 and all(text.startswith(("bad", "People prefer the start to bad")) for text in found)
    assert "at matched length +0.05 with 0 inside its interval" in found[0]
