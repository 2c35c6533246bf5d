"""The folder of one run: config.json, metrics.jsonl, the trained adapter, and whether it was finished."""

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from preferences.errors import RankloopError
from preferences.run_files import ADAPTER, CHECKPOINTS, CONFIG, METRICS, SAMPLES
from trainer.command import command_of
from trainer.models import Base
from trainer.world import World

PROMPTS = "prompts.json"


class RunExists(RankloopError):
    """The run folder already holds a run."""


class Run:
    """Where a stage writes. A folder whose state is not "finished" still holds a valid adapter if it holds one at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs: tuple[str, ...] = (METRICS, SAMPLES)

    @property
    def adapter(self) -> Path:
        """Where the trained adapter is saved."""
        return self.folder / ADAPTER

    def snapshot(self, step: int) -> Path:
        """Where the adapter after so many iterations is kept."""
        return self.folder / "snapshots" / f"{step:06d}"

    def start(self, stage: str, config: Any, base: Base, **facts: Any) -> None:
        """Make the folder and write what decides the result. Raises RunExists, or RankloopError if it cannot be written."""
        check_free(self.folder)
        document = {
            "stage": stage,
            "state": "started",
            "config": as_json(config),
            "command": command_of(stage, config, base.quantization, facts.get("parent")),
            "base": base.identity,
            "versions": {name: version(name) for name in ("rankloop", "torch", "transformers", "peft", "trl")},
            "device": str(base.device),
            "threads": torch.get_num_threads(),
            "started": time.time(),
            **facts,
        }
        self._write(document)

    def keep_prompts(self, ids: Sequence[str]) -> None:
        """Write which prompts the run has, in their order, before `start`. Raises RankloopError if it cannot be written."""
        check_free(self.folder)
        self._write(list(ids), PROMPTS)

    def prompts(self) -> list[str] | None:
        """What `keep_prompts` wrote; None in the folder of a version that did not."""
        path = self.folder / PROMPTS
        found: list[str] | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def log(self, values: Mapping[str, Any], name: str = METRICS) -> None:
        """One line of metrics.jsonl, or of another such file."""
        with (self.folder / name).open("a") as file:
            file.write(json.dumps({"time": time.time(), **values}) + "\n")

    def last_metrics(self) -> dict[str, Any]:
        """The newest line of metrics.jsonl."""
        last: dict[str, Any] = json.loads((self.folder / METRICS).read_text().splitlines()[-1])
        return last

    def truncate(self, steps: int, role: str | None = None) -> None:
        """Drop what was logged after so many steps (of that role, if one is named), a half written line included."""
        for name in self.logs:
            path = self.folder / name
            if path.exists():
                kept = [line for line in path.read_text().splitlines(keepends=True) if _step(line, role) <= steps]
                temporary = path.with_suffix(".tmp")
                temporary.write_text("".join(kept))
                temporary.replace(path)

    def goes_on(self, asked: bool, data_hash: str) -> bool:
        """Whether a run goes on, if that was `asked` for: its data must be what they were. On others it begins again."""
        if not asked:
            return False
        if self.config()["data_hash"] == data_hash:
            self.restart()
            return True
        print(f"The data have changed since {self.folder} was begun: it begins again.", file=sys.stderr)
        for name in (METRICS, SAMPLES, CONFIG):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        return False

    def restart(self) -> None:
        """Say that the run goes on, and no longer why it had ended."""
        begun = {name: value for name, value in self.config().items() if name not in ("ended", "error")}
        self._write({**begun, "state": "started", "resumed": time.time()})

    def finish(self, state: str = "finished", **facts: Any) -> None:
        """Record how the run ended ("finished", "interrupted" or "failed") and what came out."""
        self._write({**self.config(), "state": state, "ended": time.time(), **facts})

    def config(self) -> dict[str, Any]:
        """What `start` and `finish` wrote. Raises RankloopError if there is no run."""
        try:
            document: dict[str, Any] = json.loads((self.folder / CONFIG).read_text())
        except OSError as error:
            raise RankloopError(f"{self.folder} holds no run ({error}); give the folder of one.") from error
        return document

    def _write(self, document: Any, name: str = CONFIG) -> None:
        temporary = self.folder / f".{name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(document, indent=1) + "\n")
            temporary.replace(self.folder / name)
        except OSError as error:
            raise RankloopError(
                f"{self.folder} cannot be written ({error}); make room, or give another --out."
            ) from error


class Onlooker(Run):
    """A run as a process sees it that is not the main one: of its own it writes one file, what it measured and found.

    The folder may be on another host, where it holds nothing else.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        super().__init__(folder)
        self.logs = (Path(METRICS).with_suffix(f".{rank}.jsonl").name,)

    def start(self, stage: str, config: Any, base: Base, **facts: Any) -> None:
        """The main process does it."""

    def keep_prompts(self, ids: Sequence[str]) -> None:
        """The main process does it."""

    def log(self, values: Mapping[str, Any], name: str = METRICS) -> None:
        """A line of the own file."""
        if name == METRICS:
            self.folder.mkdir(parents=True, exist_ok=True)
            super().log(values, self.logs[0])

    def restart(self) -> None:
        """The main process does it."""

    def finish(self, state: str = "finished", **facts: Any) -> None:
        """The main process does it."""


def run_in(folder: Path, world: World) -> Run:
    """The run of this folder, for a process of the world."""
    return Run(folder) if world.main else Onlooker(folder, world.rank)


def as_json(config: Any) -> dict[str, Any]:
    """A command's options as config.json holds them: paths as texts, tuples as lists."""
    options: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return options


def check_free(folder: Path) -> None:
    """Raises RunExists if a run would overwrite another one."""
    if (folder / CONFIG).exists():
        raise RunExists(f"{folder} already holds a run; give another --out or remove it.")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that gets this name, in the place of an earlier one, when all of it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for left_over in (temporary, old):
        shutil.rmtree(left_over, ignore_errors=True)
    temporary.mkdir()
    yield temporary
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _step(line: str, role: str | None) -> float:
    """The step of a logged line; none that counts if it is broken, 0 if it is of another role."""
    try:
        logged = json.loads(line)
        return float(logged["step"]) if role is None or logged.get("role") == role else 0.0
    except (ValueError, KeyError):
        return float("inf")
