"""Everything a run needs to go on exactly where it was, written so that a kill at any point leaves a whole file."""

import os
from pathlib import Path
from typing import Any

import torch

from preferences.errors import RankloopError

State = dict[str, Any]


class BadCheckpoint(RankloopError):
    """A checkpoint cannot be read or written."""


class Checkpoints:
    """The newest `keep` states of a run, one file for each, named after the iterations done."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, done: int, state: State) -> None:
        """Write, make durable, then name: a file under its final name is always whole. Older ones beyond `keep` go.

        Raises BadCheckpoint if there is no room.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left_over in self.folder.glob(".*.tmp"):  # of a process that was killed
            left_over.unlink()
        temporary = self.folder / f".{done:06d}.tmp"
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch says a full disk in a RuntimeError
            temporary.unlink(missing_ok=True)
            raise BadCheckpoint(
                f"A checkpoint could not be written in {self.folder} ({error}); make room, and the run goes on from the one "
                "before."
            ) from error
        temporary.replace(self.folder / f"{done:06d}.pt")
        self._sync()
        for old in self.files()[: -self.keep]:
            old.unlink()

    def newest(self) -> State | None:
        """The newest state, on the CPU, or None. Raises BadCheckpoint if its file was damaged after it was written."""
        files = self.files()
        if not files:
            return None
        try:
            state: State = torch.load(files[-1], map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises whatever its zip reader and unpickler meet
            raise BadCheckpoint(
                f"{files[-1]} cannot be read ({error}); remove it, and the run goes on from the one before."
            ) from error
        return state

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("[0-9]*.pt"))

    def _sync(self) -> None:
        """The name itself survives power loss only once the folder is on the disk."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
