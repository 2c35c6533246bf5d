"""What a run folder holds, read without what wrote it: the trainer writes these files, the labeler shows them."""

import json
import re
from pathlib import Path
from typing import Any

CONFIG, METRICS, SAMPLES = "config.json", "metrics.jsonl", "samples.jsonl"
ADAPTER, CHECKPOINTS = "adapter", "checkpoints"
CARD, WEIGHTS = "rankloop.json", "adapter_model.safetensors"  # of an adapter
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TAIL_BYTES = 64_000
LOGS, MOST_LOGS = ".logs", 200  # in the folder of runs, which no run can be named: what workers printed during each job


def config_of(folder: Path) -> dict[str, Any] | None:
    """The run's config.json, or None where no run is."""
    try:
        document: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document


def logged(folder: Path, name: str = METRICS) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, or of another such file, oldest first; what is no JSON is left out."""
    try:
        lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
            if "\\ud" in line.lower():  # half a character, which no page can show, is an error
                json.dumps(found[-1], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            found.pop()
        except (ValueError, RecursionError):
            continue
    return [line for line in found if isinstance(line, dict)]


def metrics_bytes(folder: Path) -> int:
    """How much the run has logged."""
    try:
        return (folder / METRICS).stat().st_size
    except OSError:
        return 0


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log as a terminal shows them: of a bar that was drawn again and again, its last state."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    shown = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for line in shown if line][-lines:]


def forget_logs(folder: Path, most: int = MOST_LOGS) -> None:
    """Of the logs in the folder the oldest go, all but so many."""
    files = [path for path in folder.glob("*.log*") if path.is_file()]
    for old in sorted(files, key=lambda path: path.stat().st_mtime)[: max(0, len(files) - most)]:
        old.unlink(missing_ok=True)


def holds_adapter(folder: Path) -> bool:
    """Whether a trained adapter is there."""
    return (folder / CARD).is_file() and (folder / WEIGHTS).is_file()
