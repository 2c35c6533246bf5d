"""The room that is left on a disk, and the alarm before there is none."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from preferences.errors import NoRoom

MB = 1_000_000
LOW_BYTES = 1000 * MB  # days of answers, and a checkpoint or two
FULL_BYTES = 10 * MB  # SQLite's log alone takes 4 before it is emptied


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk that a folder is on. `low`: free bytes below which the alarm is raised."""

    folder: Path
    low: int = LOW_BYTES

    def free(self) -> int:
        """Bytes that programs may still take."""
        return shutil.disk_usage(self.folder).free

    def state(self) -> Literal["ok", "low", "full"]:
        """full: the next writes will fail."""
        free = self.free()
        return "full" if free < FULL_BYTES else "low" if free < self.low else "ok"

    def read_only(self) -> bool:
        """Whether it is mounted so that nothing can be written, as the kernel does with a disk that fails."""
        return bool(os.statvfs(self.folder).f_flag & os.ST_RDONLY)

    def alarm(self) -> str:
        """What to tell whoever can make room; "" if there is enough."""
        state = self.state()
        if state == "ok":
            return ""
        what = "nothing more can be stored" if state == "full" else "soon nothing more can be stored"
        return (
            f"The disk of {self.folder.resolve()} has {self.free() // MB} MB left: {what}. Make room: old backups, "
            "checkpoints of finished runs and logs can go; docs/operate.md says which."
        )

    def check(self) -> None:
        """Raises NoRoom, with the alarm, unless there is enough."""
        alarm = self.alarm()
        if alarm:
            raise NoRoom(alarm)
