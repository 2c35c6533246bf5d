"""The reward benchmarks on tiny models: they run from end to end and count what they say they count."""

import json
from pathlib import Path

import pytest

from benchmarks.gold_reward import Benchmark as Gold
from benchmarks.gold_reward import measure as measure_gold
from benchmarks.gold_reward import score
from benchmarks.reward_datasets import Benchmark as Datasets
from benchmarks.reward_datasets import chosen, rows_of, split, summary
from benchmarks.reward_datasets import measure as measure_datasets
from benchmarks.reward_vs_trl import Benchmark, divided, document, measure, standard_error
from preferences.errors import RankloopError
from tests.tiny import save_tiny_llama
from tests.trainer.make import is_one_sentence
from trainer.batches import Example
from trainer.ranked import Ranked


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


def test_ratios_are_of_medians() -> None:
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


def test_a_dataset_is_cut_evenly_and_split_by_prompt() -> None:
    records = [{"prompt": [p], "n": n} for p in "abcd" for n in range(10)]
    some = chosen(records, 8)
    assert sorted(record["prompt"][0] for record in some) == sorted("abcd" * 2)
    assert chosen(records, 100) != records and len(chosen(records, 100)) == 40
    sides = split(some, 0.25)
    assert sides == split(some, 0.25)
    assert len({r["prompt"][0] for r in sides if r["split"] == "heldout"}) == 1


def test_differences_are_paired() -> None:
    rows = rows_of([ranked("p"), ranked("q")], {"longer wins": [[4.0, 3.0, 2.0, 9.0]] * 2})
    assert [row["longer wins"] for row in rows] == [1.0, 1.0, 0.0] * 2
    for row in rows:
        row |= {"reward model": 1.0, "shorter wins": 0.0, "TF-IDF + length": 0.5}
    found = summary(rows)
    assert found["better_by"]["longer wins"]["value"] == pytest.approx(1 / 3) and found["pairs"] == 6


def test_the_gold_scorer_has_an_optimum() -> None:
    assert score("") == 0
    best = score("aabbc eeddf iiggh")
    assert best > score("aabbc aabbc aabbc") and best > score("aaaaa eeeee iiiii") and best > score("aabbcc" * 4)


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
def test_datasets_and_gold_on_a_tiny_model(tmp_path: Path, real_data: Path) -> None:
    model = save_tiny_llama(tmp_path / "model", vocabulary=384)
    options = Datasets(
        json=tmp_path / "d.json", data=real_data / "rankings", datasets=("ukp",), model=str(model), sets=40, seeds=1,
        options='{"rank": 4}',
    )  # fmt: skip
    found = measure_datasets(options)
    assert found["pooled"]["pairs"] == found["datasets"]["ukp"]["pairs"] > 0
    assert set(found["pooled"]["accuracy"]) == {"reward model", "longer wins", "shorter wins", "TF-IDF + length"}
    runs = measure_gold(Gold(prompts=8, iterations=2, members=2, seeds=1))["runs"]
    assert [run["reward"] for run in runs] == ["single", "pessimistic"]
    assert all(len(run["points"]) == 2 and run["points"][0]["gold"] != 0 for run in runs)
