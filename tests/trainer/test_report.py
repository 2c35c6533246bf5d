"""`trainer report`: what it says is what can be counted again, and the file needs nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_policy, add_prompts, annotator, rank, save_adapter
from tests.trainer.make import with_adapters
from tests.trainer.test_main import call
from tests.trainer.test_reward import fill, texts
from trainer.batches import Example
from trainer.ensemble import Ensemble
from trainer.evaluate import EvaluateReward, evaluate_reward
from trainer.models import Base, load_base
from trainer.ranked import Ranked
from trainer.report import Report, report
from trainer.report_html import options, table, warnings, worst
from trainer.reward import Reward, reward
from trainer.reward_report import Material, better_by, length_slope, samples
from trainer.scoring import RewardModel

pytestmark = pytest.mark.usefixtures("own_cache")
EVIL = "<script>alert(1)</script> & $x_1$."


@pytest.fixture
def run(store: Store, study: Study, base: Base, llama_folder: Path, tmp_path: Path) -> Path:
    """A reward run with a validation split, held-out rankings by two annotators, and answers of an SFT policy."""
    fill(store, study, train=50, heldout=10)
    held = store.prompts.all("heldout")
    comparison = add_comparison(store, study, held[0], [EVIL, "Fine!", "So so."])
    for name, tiers in (("ann", [[1], [2], [0]]), ("ben", [[1], [0, 2]])):
        rank(store, comparison, tiers, annotator(store, name))
    add_policy(store, study, base, save_adapter(llama_folder, tmp_path / "sft"), "sft")
    for prompt in held[:4]:
        add_comparison(store, study, prompt, texts(int(prompt.id[:4], 16)), policy="sft")
    reward(Reward(db=store.path, model=str(llama_folder), out=tmp_path / "reward", rank=4, epochs=1.0), store, base)
    return tmp_path / "reward"


@pytest.mark.timeout(300)
def test_a_whole_report(run: Path, store: Store, llama_folder: Path) -> None:
    result = report(Report(run=run))
    folder = run / "report"
    numbers = json.loads((folder / "report.json").read_text())
    again = evaluate_reward(
        EvaluateReward(db=store.path, adapter=run / "adapter"), store, load_base(str(llama_folder), "none")
    )
    assert numbers["accuracy"] == pytest.approx(again["accuracy"]) == result["accuracy"]
    assert numbers["baselines"]["longer wins"]["accuracy"]["value"] == pytest.approx(again["longer_wins"])
    assert numbers["order"]["kendall_tau"] == pytest.approx(again["kendall_tau"])
    assert set(numbers["groups"]) >= {"strength", "ranks between", "answers (K)", "source", "language", "annotator"}
    assert numbers["counts"]["validation comparisons"] == 5
    assert numbers["learned"] == numbers["counts"]["training comparisons"] == 45
    assert not [said for said in numbers["warnings"] if said.startswith("It learned")]
    assert "validation prompts" in numbers["calibration"]["fitted"]
    assert [point["comparisons"] for point in numbers["curve"]] == sorted(p["comparisons"] for p in numbers["curve"])
    assert len(numbers["robustness"]) == 7 and len(numbers["worst"]) > 0
    card = json.loads((run / "adapter" / "rankloop.json").read_text())
    assert numbers["calibration"]["temperature"] == pytest.approx(card["temperature"], rel=1e-3)
    assert np.mean(numbers["samples"]["raw"]) == pytest.approx(
        np.mean(numbers["samples"]["normalised"]) * card["std"] + card["mean"], abs=1e-4
    )
    names = {Path(path).stem for path in result["pictures"]}
    assert names == {
        "accuracy", "groups", "reliability", "scores", "length", "curve", "training", "samples", "robustness",
    }  # fmt: skip
    for path in result["pictures"]:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and min(picture.size) > 200 and len(set(picture.convert("L").getdata())) > 10
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(names)
    text = re.sub(r"base64,[^']*", "", page)
    assert "<script" not in text and not re.search(r"(src|href)='(?!data:)", text) and "http" not in text
    for warning in result["warnings"]:
        assert warning.split("'")[0] in page


def test_samples_of_an_ensemble_are_the_members_means(
    store: Store, study: Study, base: Base, llama_folder: Path, tmp_path: Path
) -> None:
    (prompt,) = add_prompts(store, study, 1)
    add_policy(store, study, base, save_adapter(llama_folder, tmp_path / "sft"), "sft")
    comparison = add_comparison(store, study, prompt, texts(5), policy="sft")
    roles = with_adapters(base, "reward-0", "reward-1", heads=["reward-0", "reward-1"])
    members = tuple(RewardModel(roles, f"reward-{i}", 0.5 * i, 1.0 + i, {}) for i in range(2))
    options = Reward(db=store.path, out=tmp_path / "out")
    found = samples(Material(Ensemble(roles, members, {}), [], [], options, 4096), store, study)
    answers = list(store.responses.get_many(comparison.items).values())
    each = np.array([member.score_responses(answers, [prompt], 4096) for member in members])
    assert sorted(found["normalised"]) == pytest.approx(sorted(each.mean(0)), abs=1e-4)
    raw = (each[0] * 1.0 + 0.0 + each[1] * 2.0 + 0.5) / 2
    assert sorted(found["raw"]) == pytest.approx(sorted(raw), abs=1e-4)


def test_from_the_command_line(
    run: Path, store: Store, study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of a run since which more was ranked, without what takes long."""
    for prompt in store.prompts.all("train")[:20]:
        rank(store, add_comparison(store, study, prompt, ["Fine!", "So so."]), [[0], [1]])
    capsys.readouterr()
    assert call("report", str(run), "--no-robustness", "--no-curve", "--out", str(tmp_path / "here"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"report", "pictures", "accuracy", "better_by", "ece", "warnings"} == found.keys()
    assert Path(found["report"]) == tmp_path / "here" / "report.html"
    numbers = json.loads((tmp_path / "here" / "report.json").read_text())
    assert numbers["robustness"] == [] and numbers["curve"] == []
    assert numbers["learned"] == 45 < numbers["counts"]["training comparisons"] <= 45 + 20
    assert [
        said for said in found["warnings"] if said.startswith("It learned from 45 training comparisons, and there are")
    ]
    assert not (tmp_path / "here" / "curve.png").exists()


def test_texts_are_escaped() -> None:
    """Of prompts and answers, of options, and of warnings."""
    row = {
        "prompt": EVIL, "preferred": EVIL, "other": "b" * 900, "preferred_score": -1.0, "other_score": 2.0, "share": 1.0,
        "comparison": "c",
    }  # fmt: skip
    document = {"worst": [row], "options": {"model": EVIL}, "notes": [EVIL], "warnings": [], "robustness": []}
    made = worst(document) + options(document) + warnings(document)
    assert made.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x_1$.") == 4 and "<script" not in made
    assert "b" * 499 + "…" in made and "b" * 500 not in made


def test_numbers_stand_to_the_right_and_words_among_them_wrap() -> None:
    made = table(("what", "value", "id"), [("n", "0.5 [0.4, 0.6]", "1ea60f"), ("m", "nobody knows why", "2b")])
    assert "<td class='number'>0.5 [0.4, 0.6]</td>" in made and "<td class='words'>nobody knows why</td>" in made
    assert "<td class=''>1ea60f</td>" in made and made.count("<th class='number'>") == 1


def test_what_cannot_be_reported(store: Store, study: Study, base: Base, llama_folder: Path, tmp_path: Path) -> None:
    fill(store, study, train=3)
    reward(Reward(db=store.path, model=str(llama_folder), out=tmp_path / "reward", rank=4), store, base)
    for folder, sentence in (
        ("reward", "has no decided held-out pair by people"),
        ("none", "holds no run"),
    ):
        with pytest.raises(RankloopError, match=sentence):
            report(Report(run=tmp_path / folder))


def ranked(prompt: str, sizes: list[int], pairs: list[tuple[int, int, float]]) -> Ranked:
    """A comparison of texts of those lengths."""
    examples = [Example([1], [i, len(prompt)]) for i in range(len(sizes))]
    return Ranked(prompt, examples, ["x" * size for size in sizes], pairs, [])


def test_better_by_is_paired() -> None:
    some = [ranked(name, [1, 2], [(0, 1, 1.0)]) for name in "abcd"]
    right, wrong = [[1.0, 0.0]] * 4, [[1.0, 0.0]] * 3 + [[0.0, 1.0]]
    found = better_by(some, right, wrong)
    assert (found.value, found.n) == (0.25, 4) and found.low == 0
    assert better_by(some, right, right).as_dict() == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 4}


def test_the_slope_is_within_prompts() -> None:
    """Prompts with longer answers score higher as a whole, and within each the longer ones score lower by 1 a doubling."""
    some = [ranked("p", [3, 7, 15], []), ranked("q", [255, 511, 1023], [])]
    scores = [[-2.0, -3.0, -4.0], [12.0, 11.0, 10.0]]
    found: dict[str, Any] = length_slope(some, scores)
    assert found["slope"] * np.std(scores) == pytest.approx(-1)
    assert found["r2"] == pytest.approx(1)
