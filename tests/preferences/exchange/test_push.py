"""A push to a hub over HTTP: what `datasets` and `huggingface_hub` really send, to a server of our own."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard
from PIL import Image as Pillow
from pyarrow import parquet

from preferences.images import image_of, reference
from preferences.records import Study
from preferences.store import Store
from tests.conftest import ROOT
from tests.preferences.exchange.hub import REPOSITORY, TOKEN, Hub, standing_hub
from tests.preferences.make import add_annotator, add_comparison


@pytest.fixture
def ranked(store: Store, study: Study) -> Study:
    """A ranking of each split; one prompt shows a picture."""
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), "red").save(file, "PNG")
    picture = image_of(file.getvalue())
    store.images.add([picture])
    ann = add_annotator(store)
    for question in (f"Which colour? {reference(picture.id)}", "And which one is larger, two or three?"):
        made = add_comparison(store, study, question, ("a", "b"))
        store.rankings.add_imported(ann, made, [[item] for item in made.items])
    with store.write() as db:
        db.execute("UPDATE prompts SET split = 'heldout' WHERE messages LIKE '%larger%'")
    return study


def pushed(db: Path, hub: Hub, home: Path, token: str, *more: str) -> subprocess.CompletedProcess[str]:
    """`labeler export --push-to-hub`, in a process of its own: the hub's address is read when the library is loaded."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "labeler", "export", "--push-to-hub", REPOSITORY, "--db", str(db), *more]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip


def test_a_push_makes_the_repository_with_data_card_and_pictures(store: Store, ranked: Study, tmp_path: Path) -> None:
    assert ranked.name
    with standing_hub() as hub:
        options = ("--format", "trl-preference", "--split", "all", "--license", "cc-by-4.0")
        refused = pushed(store.path, hub, tmp_path / "home", "hf_another", *options)
        assert refused.returncode == 2 and hub.files == {} and "Traceback" not in refused.stderr
        assert f"{REPOSITORY} cannot be pushed to" in refused.stderr and "hf auth login" in refused.stderr
        done = pushed(store.path, hub, tmp_path / "home", TOKEN, *options)
        assert done.returncode == 0, done.stderr
        assert hub.private is True and "2 records" in done.stdout
    tables = {path: parquet.read_table(io.BytesIO(data)) for path, data in hub.files.items() if "parquet" in path}
    assert {path.split("/")[1].split("-")[0]: table.num_rows for path, table in tables.items()} == {
        "train": 1,
        "heldout": 1,
    }
    (train,) = [table for path, table in tables.items() if "train" in path]
    assert train.column("chosen").to_pylist() == [[{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]]
    (image,) = train.column("images").to_pylist()[0]
    assert Pillow.open(io.BytesIO(image["bytes"])).convert("RGB").getpixel((4, 4)) == (255, 0, 0)
    card = DatasetCard(hub.files["README.md"].decode())
    assert card.data.license == "cc-by-4.0" and "## Counts" in card.content
    assert [one["split"] for one in card.data.to_dict()["configs"][0]["data_files"]] == ["train", "heldout"]
