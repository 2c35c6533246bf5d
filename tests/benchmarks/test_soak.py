"""The soak, for half a minute and with a handful of annotators."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import missing
from benchmarks.soak_server import Seen
from preferences.store import Store
from tests.labeler.mortal import filled

REPOSITORY = Path(__file__).parents[2]


def test_what_is_missing_changed_or_there_twice_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path / "labels.db", 3)
    account = store.annotators.add("annotator 7", "annotator", "")
    seen = Seen()
    for comparison in store.comparisons.all():
        store.rankings.add_imported(account, comparison, [[item] for item in comparison.items])
    for moment, one in enumerate(store.rankings.current()):
        seen.acknowledged[7, one.nonce] = one.id, one.tiers, float(moment)
    store.close()
    assert missing(tmp_path / "labels.db", seen, float("inf"))[:2] == (0, 0)
    (first, (ident, tiers, when)), *_ = seen.acknowledged.items()
    seen.acknowledged[first] = ident, tiers[::-1], when
    seen.acknowledged[7, "never stored"] = "nowhere", tiers, 99.0
    assert missing(tmp_path / "labels.db", seen, float("inf"))[:2] == (2, 0)
    assert missing(tmp_path / "labels.db", seen, 50.0)[:2] == (1, 0)
    store = Store(tmp_path / "labels.db")
    with store.write() as db:  # behind the back of everything that watches over it
        columns = ", ".join(column.name for column in db["rankings"].columns if column.name not in ("id", "nonce"))
        db.execute(f"INSERT INTO rankings (id, nonce, {columns}) SELECT 'x', 'x', {columns} FROM rankings LIMIT 1")
    store.close()
    assert missing(tmp_path / "labels.db", seen, 50.0)[:2] == (1, 1)


@pytest.mark.durability
def test_a_short_soak_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    asked = ["--annotators", "8", "--think-time", "1", "--minutes", "0.7", "--json", str(out)]
    subprocess.run([sys.executable, "-m", "benchmarks.soak", *asked], cwd=REPOSITORY, check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert (found["errors_unexpected"], found["first_errors"]) == (0, [])
    assert (found["lost"], found["duplicates"], found["lost_in_backup"]) == (0, 0, 0)
    assert found["submitted"] > 8 and found["backups"] >= 1 and found["looks"] > 8
    assert found["deaths"]["server"] == 2 and found["longest_outage_s"] > 0
    assert {"p99_ms", "rss_growth_mb"} <= found.keys()
