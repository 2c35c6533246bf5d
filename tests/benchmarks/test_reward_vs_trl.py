"""The reward benchmarks on tiny models: they run from end to end and count what they say they count."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gold_reward import Benchmark as Gold
from benchmarks.gold_reward import measure as measure_gold
from benchmarks.gold_reward import score, told
from benchmarks.reward_datasets import Benchmark as Datasets
from benchmarks.reward_datasets import chosen, rows_of, split, summarise, summary, within
from benchmarks.reward_datasets import measure as measure_datasets
from benchmarks.reward_datasets import print_markdown as print_datasets
from benchmarks.reward_layers import POOLINGS, crossed, layer_states, probed_layers
from benchmarks.reward_layers import Benchmark as Layers
from benchmarks.reward_layers import measure as measure_layers
from benchmarks.reward_layers import print_markdown as print_layers
from benchmarks.reward_vs_trl import Benchmark, divided, document, measure, print_markdown, standard_error
from preferences.errors import RankloopError
from tests.tiny import save_tiny_llama
from tests.trainer.make import EXAMPLES, close, is_one_sentence
from trainer.batches import Example
from trainer.exits import leaving
from trainer.models import load_base
from trainer.ranked import Ranked
from trainer.roles import BASE, Roles
from trainer.scoring import pooled_states


def ranked(prompt: str, k: int = 4, length: int = 3) -> Ranked:
    """A comparison of k answers; the first is best."""
    pairs = [(0, i, 1.0) for i in range(1, k)]
    texts = ["x" * (k - i) for i in range(k)]
    return Ranked(prompt, [Example([1], [2] * length) for _ in range(k)], texts, pairs, [])


def test_sides_have_different_prompts() -> None:
    config = Benchmark(sets=6, heldout=3)
    made = [ranked(f"p{i}") for i in range(12)] + [ranked("q", k=3), ranked("r", length=600)]
    train, held = divided(config, made)
    assert (len(train), len(held)) == (6, 3)
    assert not {r.prompt for r in train} & {r.prompt for r in held}
    assert all(len(r.examples) == 4 and r.longest <= 512 for r in (*train, *held))
    with pytest.raises(RankloopError) as error:
        divided(Benchmark(sets=60), made)
    assert is_one_sentence(str(error.value))


def test_ratios_are_of_medians(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        {"side": side, "seed": seed, "accuracy": accuracy, "pairs": 60, "seconds": seconds, "peak_rss_mb": memory}
        for side, seed, accuracy, seconds, memory in (
            ("ours", 0, 0.6, 10, 100), ("ours", 1, 0.7, 12, 110), ("ours", 2, 0.8, 60, 120),
            ("trl", 0, 0.5, 30, 200), ("trl", 1, 0.6, 36, 220), ("trl", 2, 0.7, 36, 240),
        )
    ]  # fmt: skip
    found = document(Benchmark(), [ranked("p")], [ranked("q")], runs)
    assert found["speed_ratio"] == pytest.approx(3.0) and found["memory_ratio"] == pytest.approx(0.5)
    assert found["accuracy"] == pytest.approx({"ours": 0.7, "trl": 0.6})
    assert found["accuracy_standard_error"]["ours"] == pytest.approx(0.1 / 3**0.5)
    assert found["longer_wins"] == 1.0 and standard_error([0.5]) is None
    print_markdown(found)
    printed = capsys.readouterr().out
    assert "| pairs a second | 5.00 | 1.67 | 3.00 |" in printed and "| accuracy | 0.700 (s.e. 0.058) |" in printed


def test_a_dataset_is_cut_evenly_and_split_by_prompt() -> None:
    records = [{"prompt": [p], "n": n} for p in "abcd" for n in range(10)]
    some = chosen(records, 8)
    assert sorted(record["prompt"][0] for record in some) == sorted("abcd" * 2)
    assert chosen(records, 100) != records and len(chosen(records, 100)) == 40
    sides = split(some, 0.25)
    assert sides == split(some, 0.25)
    assert len({r["prompt"][0] for r in sides if r["split"] == "heldout"}) == 1


def test_training_answers_are_cut_to_so_many_characters() -> None:
    """A text that was there before costs nothing; held-out sets stay."""
    sides = ["train", "heldout", "train", "train", "train"]
    texts = ["aaaa", "h" * 99, "aaaa", "bbbb", "cccc"]
    records = [
        {"prompt": [1], "split": side, "responses": [{"text": text}, {"text": "zz"}], "n": n}
        for n, (side, text) in enumerate(zip(sides, texts, strict=True))
    ]
    assert [record["n"] for record in within(records, 10)] == [0, 1, 2, 3]
    assert [record["n"] for record in within(records, 6)] == [0, 1, 2]
    assert within(records, None) == records


def test_differences_are_paired() -> None:
    rows = rows_of([ranked("p"), ranked("q")], {"longer wins": [[4.0, 3.0, 2.0, 9.0]] * 2})
    assert [row["longer wins"] for row in rows] == [1.0, 1.0, 0.0] * 2
    for row in rows:
        row |= {"reward model": 1.0, "shorter wins": 0.0, "TF-IDF + length": 0.5}
    found = summary(rows)
    assert found["better_by"]["longer wins"]["value"] == pytest.approx(1 / 3) and found["pairs"] == 6


def test_a_pair_counts_with_the_mean_of_its_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": p, "longer wins": 1.0, "shorter wins": 0.0, "TF-IDF + length": 0.5} for p in "pqrs"]
    runs = [
        {"seed": 0, "processor_seconds": 60.0, "hits": [1, 1, 0, 0]},
        {"seed": 1, "processor_seconds": 120.0, "hits": [1, 0, 0, 0]},
    ]
    one = {"training sets": 7, "held-out sets": 4, "rows": rows, "runs": runs}
    found: dict[str, Any] = {"settings": {"sets": 9}, "datasets": {"ukp": one, "lamp": {**one, "runs": runs[:1]}}}
    summarise(found)
    assert found["datasets"]["ukp"]["accuracy"]["reward model"]["value"] == pytest.approx(3 / 8)
    assert found["pooled"]["accuracy"]["reward model"]["value"] == pytest.approx(7 / 16)
    assert found["pooled"]["better_by"]["TF-IDF + length"]["value"] == pytest.approx(-1 / 16)
    print_datasets(found)
    printed = capsys.readouterr().out
    assert "| ukp | 7 | 4 | 2 | 1.5 | 0.38 [" in printed and "| pooled |  | 8 |  |  | 0.44 [" in printed


def test_probes_are_judged_on_prompts_that_they_were_not_fitted_to() -> None:
    """States that say the order by heart are worth nothing; those that say it by a rule are."""
    made = [ranked(f"p{i}", k=2) for i in range(20)]
    rows = [[2 * i, 2 * i + 1] for i in range(20)]
    folds = [{f"p{i}" for i in range(20) if i % 5 == fold} for fold in range(5)]
    heart = torch.eye(40)
    rule = torch.cat([torch.randn(40, 3), torch.tensor([[1.0], [-1.0]] * 20)], 1)
    assert crossed(heart, made, rows, folds, 0.1).value < 0.8
    found = crossed(rule, made, rows, folds, 0.1)
    assert found.value > 0.95 and found.n == 20


def test_the_states_of_a_layer_are_what_a_reward_model_reads_there(tmp_path: Path) -> None:
    model = str(save_tiny_llama(tmp_path / "model"))
    roles = Roles(load_base(model, "none"))
    examples = [*EXAMPLES, Example(EXAMPLES[-1].prompt, [44, 45])]
    wanted = probed_layers(Layers(model=model, every=1, also=("2+1",)), roles.base)
    assert wanted == [(1,), (1, 2), (2,)]
    states = layer_states(Layers(model=model), roles, examples, wanted)
    for layers in wanted:
        with leaving(roles.base, [layers], whole=False):
            for pooling in POOLINGS:
                assert close(states[pooling, layers], pooled_states(roles, BASE, examples, pooling, 4096))
    for wrong in ("3", "1+", "0+1", "first"):
        with pytest.raises(RankloopError, match="--also") as error:
            probed_layers(Layers(model=model, also=(wrong,)), roles.base)
        assert is_one_sentence(str(error.value))


def test_the_gold_scorer_has_an_optimum() -> None:
    assert score("") == 0
    assert score("a e ") == 2.0  # half of the characters each
    assert score("a tent") < score("a e to")  # more vowels are better at first
    assert score("aaaaaa") == score("      ") == 0  # and then too many


@pytest.mark.slow
def test_both_sides_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path / "cache"))
    model, file, out = save_tiny_llama(tmp_path / "model"), tmp_path / "sets.jsonl", tmp_path / "w.json"
    file.write_text(
        "".join(
            json.dumps(
                {
                    "prompt": [{"role": "user", "content": f"Question {i}?"}],
                    "responses": [{"text": f"Answer {i} {j}" + "!" * j} for j in range(4)],
                    "annotations": [{"annotator": "a", "ranking": [[3], [2], [1], [0]]}],
                }
            )
            + "\n"
            for i in range(16)
        )
    )
    sizes = {"sets": 8, "heldout": 4, "seeds": 1, "rank": 4, "micro_batch": 4, "batch": 2}
    found = measure(Benchmark(json=out, file=file, model=str(model), **sizes))  # type: ignore[arg-type]
    assert json.loads(out.read_text())["speed_ratio"] == found["speed_ratio"] > 0
    assert [run["pairs"] for run in found["runs"]] == [48, 48]
    assert set(found["accuracy"]) == {"ours", "trl"} and found["memory_ratio"] > 0


@pytest.mark.slow
def test_datasets_and_layers_on_a_tiny_model(
    tmp_path: Path, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second call does what the first one left."""
    model = save_tiny_llama(tmp_path / "model", vocabulary=384)
    common: dict[str, Any] = {"data": real_data / "rankings", "model": str(model), "sets": 40}
    options: dict[str, Any] = {"json": tmp_path / "d.json", "options": '{"rank": 4}', **common}
    first = measure_datasets(Datasets(datasets=("ukp",), seeds=1, **options))
    assert first["pooled"]["pairs"] == first["datasets"]["ukp"]["pairs"] > 0
    assert set(first["pooled"]["accuracy"]) == {"reward model", "longer wins", "shorter wins", "TF-IDF + length"}
    found = measure_datasets(Datasets(datasets=("ukp", "finegrained"), seeds=2, **options))
    assert found["datasets"]["ukp"]["runs"][0] == first["datasets"]["ukp"]["runs"][0]
    assert [[run["seed"] for run in one["runs"]] for one in found["datasets"].values()] == [[0, 1], [0, 1]]
    assert json.loads((tmp_path / "d.json").read_text()) == found
    assert measure_datasets(Datasets(datasets=("ukp", "finegrained"), seeds=2, **options)) == found
    print_datasets(found)
    assert "| finegrained |" in capsys.readouterr().out

    options = {"json": tmp_path / "l.json", "every": 1, "also": ("1+2",), **common}
    first = measure_layers(Layers(datasets=("ukp",), **options))
    found = measure_layers(Layers(datasets=("ukp", "finegrained"), **options))
    assert found["datasets"]["ukp"] == first["datasets"]["ukp"]
    assert list(found["datasets"]["finegrained"]["mean"]) == ["1", "1+2", "2"]
    print_layers(found)
    assert "| layer | ukp, last | finegrained, last | ukp, mean | finegrained, mean |" in capsys.readouterr().out


@pytest.mark.slow
def test_gold_on_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"json": tmp_path / "g.json", "prompts": 8, "iterations": 8, "members": 2}
    runs = measure_gold(Gold(seeds=1, **options))["runs"]
    assert [run["reward"] for run in runs] == ["single", "pessimistic"]
    assert all(len(run["points"]) == 8 and run["points"][0]["gold"] != 0 for run in runs)
    found = measure_gold(Gold(seeds=2, **options))
    assert [run["seed"] for run in found["runs"]] == [0, 0, 1, 1] and found["runs"][:2] == json.loads(json.dumps(runs))
    told(Gold(markdown=True, png=tmp_path / "g.png"), found)
    assert "| sqrt KL | gold, single | gold, pessimistic |" in capsys.readouterr().out
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
