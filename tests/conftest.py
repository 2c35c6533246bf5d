"""What all tests share: no network, no telemetry, a fresh store, and the folder of real human rankings."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Before any library reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings

from preferences.records import Study
from preferences.store import Store

# Examples that touch the disk take as long as the machine is busy.
settings.register_profile("rankloop", deadline=None)
settings.load_profile("rankloop")

# Every comparison is ranked once, by anybody.
PLAIN = {"labels_heldout": 1, "shared": 0.0, "repeats": 0.0}
ROOT = Path(__file__).parent.parent


@pytest.fixture
def clock() -> Callable[[], float]:
    """What the store takes the time from; tests in which it matters put a `make.Clock` in its place."""
    return time.time


@pytest.fixture
def store(tmp_path: Path, clock: Callable[[], float]) -> Iterator[Store]:
    """A new, empty store."""
    made = Store(tmp_path / "rankloop.db", clock)
    yield made
    made.close()


@pytest.fixture
def study(store: Store) -> Study:
    """An active study of four responses a comparison, each ranked once."""
    return store.studies.create("main", k=4, plan=PLAIN)


@pytest.fixture
def real_data() -> Path:
    """The folder of real human rankings; the test is skipped where there is none."""
    folder = Path(os.environ.get("RANKLOOP_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real rankings in {folder}; set RANKLOOP_REAL_DATA to their folder")
    return folder
