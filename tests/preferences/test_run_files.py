"""Run folders, read while they are written."""

import json
from pathlib import Path

import pytest

from preferences.run_files import RUN_NAME, config_of, holds_adapter, logged, tail


def test_what_is_missing_or_half_written_is_left_out(tmp_path: Path) -> None:
    assert config_of(tmp_path) is None and logged(tmp_path) == [] and not holds_adapter(tmp_path)
    (tmp_path / "config.json").write_text('{"stage": "ppo"}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n7\n{"step": 2}\n{"ste')
    assert config_of(tmp_path) == {"stage": "ppo"}
    assert logged(tmp_path) == [{"step": 1}, {"step": 2}]
    (tmp_path / "config.json").write_text("{")
    assert config_of(tmp_path) is None


def test_a_log_is_shown_as_a_terminal_shows_it(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_bytes(b"begin\n\rppo 10%\rppo 20%\rppo 30%\nend \xff\n\n")
    assert tail(log, 10) == ["begin", "ppo 30%", "end \N{REPLACEMENT CHARACTER}"]
    assert tail(log, 1) == ["end \N{REPLACEMENT CHARACTER}"]
    log.write_text("".join(f"line {number}\n" for number in range(20_000)))
    assert tail(log, 3) == ["line 19997", "line 19998", "line 19999"]
    assert tail(tmp_path / "none.log", 3) == []


@pytest.mark.parametrize("name", ["", ".logs", "../x", "a/b", "a b", "-x", "a" * 65, "ä", "a\n"])
def test_a_run_cannot_be_named_like_a_path(name: str) -> None:
    assert not RUN_NAME.fullmatch(name)


def test_an_adapter_is_its_weights_and_its_card(tmp_path: Path) -> None:
    (tmp_path / "rankloop.json").write_text(json.dumps({}))
    assert not holds_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").touch()
    assert holds_adapter(tmp_path)
