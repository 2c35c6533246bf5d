"""What the runs of a comparison amount to, on made-up runs."""

import json

import pytest

from benchmarks.ppo_results import (
    CLASSIC,
    NAMES,
    OURS,
    OURS_4,
    TRL,
    TRL_LORA,
    Measured,
    best_window,
    document,
    reward_result,
    seconds_to,
    show,
)
from benchmarks.ppo_vs_trl import alike


def timing(contestant: str, *seconds: float, rss: float = 100.0, alternation: int = 0) -> dict[str, object]:
    """A timing run whose updates took so long."""
    rows = [
        {"seconds": s, "cpu_seconds": 2 * s, "phases": {"generate": s / 4, "score": s / 4, "train": s / 2}}
        for s in seconds
    ]
    return {
        "contestant": contestant, "part": "timing", "alternation": alternation, "updates": rows, "peak_rss_mb": rss,
        "reward_pass_seconds": 3.0,
    }  # fmt: skip


def reward(contestant: str, lr: float, scores: list[float], seconds: float) -> dict[str, object]:
    """A run of the time to reward."""
    rows = [{"seconds": seconds, "scores": score} for score in scores]
    return {"contestant": contestant, "part": "reward", "lr": lr, "updates": rows}


WORK = {"episodes": 32, "new_tokens": 48, "epochs": 4}


def measured() -> Measured:
    """Three alternations; the first update of each run is far off, as a warm-up is, and so is ours in the last one. In the
    second one the machine is slow for all."""
    runs = [
        run
        for number, (slow, apart) in enumerate([(1, 0.0), (2, 0.0), (1, 500.0)])
        for run in (
            timing(TRL, 999, 140 * slow, rss=8000, alternation=number),
            timing(OURS, 999, 70 * slow + apart, rss=2000, alternation=number),
            timing(TRL_LORA, 999, 105 * slow, rss=4000, alternation=number),
            timing(OURS_4, 999, 40 * slow, rss=1900, alternation=number),
            timing(CLASSIC, 999, 95 * slow, rss=4000, alternation=number),
        )
    ]
    return Measured(dict(WORK), runs)


def test_ratios_are_medians_of_what_ran_side_by_side() -> None:
    found = document(measured())
    assert found["speed_ratio"] == {"one_sample": 2.0, "four_samples": 3.5}
    assert found["memory_ratio"] == 0.25
    assert found["classic"] == {"speed_ratio": (190 + 3) / 140, "memory_ratio": 0.5, "reward_pass_seconds": 3.0}
    assert found["lora_value"] == {"speed_ratio": 1.5, "memory_ratio": 0.5}
    assert found["cpu_seconds"][NAMES[TRL]] == 2 * found["seconds"][NAMES[TRL]] == 280
    assert found["phases"][NAMES[TRL]] == {"generate": 35, "score": 35, "train": 70}
    assert "time_to_reward_ratio" not in found


def test_every_ratio_names_its_peer() -> None:
    runs = [*measured().runs, reward(TRL, 1e-4, [1.0, 2.0, 3.0], 10), reward(OURS, 0, [1.0, 2.0, 3.0], 5)]
    found = document(Measured(dict(WORK), runs))
    named = {
        f"{group}.{name}"
        for group in ("speed_ratio", "lora_value", "classic")
        for name in found[group]
        if "pass" not in name
    }
    assert set(found["peers"]) == {*named, "memory_ratio", "time_to_reward_ratio"}
    assert found["time_to_reward_ratio"] == 2.0
    assert (
        "1.12.0, as documented" in found["peers"]["speed_ratio.one_sample"]
        and "0.11.4" in found["peers"]["classic.speed_ratio"]
    )


def test_before_everything_is_measured_what_is_missing_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    part = Measured(dict(WORK), [timing(TRL, 999, 140, rss=8000)])
    found = json.loads(json.dumps(document(part)))
    assert found["speed_ratio"] == {"one_sample": None, "four_samples": None} and found["memory_ratio"] is None
    show(part)
    assert "140.0" in capsys.readouterr().out


def test_windows_of_three_updates() -> None:
    assert best_window([0, 3, 6, 3, 0]) == 4
    updates = [{"scores": score, "seconds": 10 + i} for i, score in enumerate([0, 3, 6, 3, 0])]
    assert seconds_to(updates, 4) == 10 + 11 + 12 + 13
    assert seconds_to(updates, 3) == 10 + 11 + 12
    assert seconds_to(updates, 4.1) is None


def test_the_time_to_reward_is_that_of_the_best_learning_rate() -> None:
    runs = [
        reward(TRL, 1e-5, [0.0, 0.0, 0.0, 1.0], 10),
        reward(TRL, 1e-4, [0.0, 1.0, 2.0, 3.0], 10),
        reward(TRL, 1e-3, [0.0, 5.0, -9.0, 0.0], 1),
        reward(OURS, 0, [2.0, 1.0, 3.0, 9.0], 4),
    ]
    assert reward_result(runs[:3]) == {}
    assert reward_result(runs) == {
        "target": 2.0, "trl_learning_rate": 1e-4, "trl_seconds": 40, "ours_seconds": 12, "ours_best": 13 / 3,
        "ratio": 40 / 12,
    }  # fmt: skip
    never = [*runs[:3], reward(OURS, 0, [0.0, 0.0, 0.0, 0.0], 4)]
    assert reward_result(never)["ratio"] is None and reward_result(never)["ours_best"] == 0


def test_prompts_that_are_as_long_as_all_of_them() -> None:
    lengths = [30, 25, 17, 40, 22, 21, 19, 33, 28, 26, 24, 23, 20, 35, 27, 18]
    chosen = alike(lengths, 4)
    assert len(set(chosen)) == 4 and lengths[chosen[0]] == max(lengths)
    mean = sum(lengths) / 16
    assert abs(sum(lengths[i] for i in chosen) / 4 - mean) < 0.1 * mean
    assert abs(sum(sorted(lengths)[-4:]) / 4 - mean) > 0.3 * mean  # the longest would not do
