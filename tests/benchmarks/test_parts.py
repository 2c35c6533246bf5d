"""What a stopped benchmark leaves, and where the next call goes on."""

import json
from pathlib import Path

import pytest

from benchmarks.parts import begun, keep, markdown, read, said
from preferences.errors import RankloopError
from tests.trainer.make import is_one_sentence


def test_the_next_call_goes_on_with_what_was_kept(tmp_path: Path) -> None:
    path, settings = tmp_path / "found.json", {"l2": (0.1, 1.0), "file": Path("a")}
    document = begun(path, settings)
    assert document == {"settings": {"l2": [0.1, 1.0], "file": "a"}} == begun(None, settings)
    document["runs"] = [1]
    keep(path, document)
    document["runs"].append(2)
    path.with_name("found.json.part").write_text(json.dumps(document)[:-9])  # it ended while it wrote
    assert begun(path, settings)["runs"] == [1]
    keep(path, document)
    assert begun(path, settings)["runs"] == [1, 2] == read(path)["runs"]


def test_other_options_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    keep(path, begun(path, {"sets": 4}))
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for call in (
        lambda: begun(path, {"sets": 5}),
        lambda: begun(broken, {}),
        lambda: read(tmp_path / "none"),
        lambda: read(None),
    ):
        with pytest.raises(RankloopError) as error:
            call()
        assert is_one_sentence(str(error.value))


def test_tables_are_markdown() -> None:
    table = markdown(
        ["", "a"], [["x", said({"value": 0.5, "low": 0.25, "high": 0.75}, 2)], ["y", said({"value": None})]]
    )
    assert table == "|  | a |\n| --- | --- |\n| x | 0.50 [0.25, 0.75] |\n| y | - |"
