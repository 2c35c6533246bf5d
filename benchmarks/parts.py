"""What a long benchmark has measured so far, written to its --json after each part; the next call goes on from there."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from preferences.errors import RankloopError


def begun(path: Path | None, settings: dict[str, Any], under: str = "settings") -> dict[str, Any]:
    """What an earlier call with these settings wrote; without one, a document that holds the settings alone, `under` that
    key.

    Raises RankloopError if the file is of other settings.
    """
    asked: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    if path is None or not path.exists():
        return {under: asked}
    document = read(path)
    if document.get(under) != asked:
        raise RankloopError(f"{path} was measured with other options; give another --json, or move it away.")
    return document


def read(path: Path | None) -> dict[str, Any]:
    """A benchmark's document. Raises RankloopError if there is none."""
    if path is None or not path.is_file():
        raise RankloopError(
            f"There is no document {path or ''}; give the --json that a benchmark wrote.".replace("  ", " ")
        )
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise RankloopError(f"{path} is not valid JSON ({error}); move it away.") from error
    return document


def keep(path: Path | None, document: dict[str, Any]) -> None:
    """Write the document whole: an end in the middle leaves the one before."""
    if path:
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(document, indent=1) + "\n")
        part.replace(path)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table to be pasted into a document."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table on standard output, as people read it."""
    drawn = Table(*header, box=SIMPLE, title=title)
    for row in rows:
        drawn.add_row(*row)
    Console(width=180).print(drawn)


def said(interval: dict[str, Any], digits: int = 3) -> str:
    """ "0.712 [0.661, 0.758]"; a dash where there is nothing."""
    if interval["value"] is None:
        return "-"
    value = f"{interval['value']:.{digits}f}"
    return f"{value} [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]"
