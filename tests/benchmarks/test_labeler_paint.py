"""The benchmark of what is seen, with a few comparisons."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright")

pytestmark = [pytest.mark.browser]
REPOSITORY = Path(__file__).parents[2]


def test_each_enter_is_timed_and_each_ranking_stored(tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    command = [sys.executable, "-m", "benchmarks.labeler_paint", "--comparisons", "3", "--json", str(out)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    found = json.loads(out.read_text())
    assert found["painted"] == found["stored"] == 3
    assert 10 < found["p50_ms"] <= found["p95_ms"] <= found["max_ms"] < 10_000
