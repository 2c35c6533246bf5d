"""The benchmark of annotators at once, with a handful of them."""

import json
import random
import subprocess
import sys
from pathlib import Path

from benchmarks.labeler_load import DRAFTS, markdown

REPOSITORY = Path(__file__).parents[2]


def test_answers_are_of_the_size_that_is_promised() -> None:
    sizes = [len(markdown(random.Random(seed))) for seed in range(50)]
    assert 1300 < sum(sizes) / 50 < 1700


def test_everything_that_is_submitted_is_stored_once(tmp_path: Path) -> None:
    out = tmp_path / "l.json"
    asked = ["--annotators", "5", "--think-time", "0.5", "--minutes", "0.05"]
    command = [sys.executable, "-m", "benchmarks.labeler_load", *asked, "--json", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    found = json.loads(out.read_text())
    assert (found["errors"], found["first_errors"]) == (0, [])
    assert found["submitted"] == found["stored"] == found["distinct"] > 5
    assert found["drafts"] >= DRAFTS * found["submitted"]
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] <= found["max_ms"]
    assert found["processors"]["helper"] > 0, "The server rendered by itself."
    assert 50 < found["memory_mb"]["before"] <= found["memory_mb"]["after"] + 20
