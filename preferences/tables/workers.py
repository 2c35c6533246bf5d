"""The workers that are at work, and what each says that it can do."""

import json
from typing import Any

from preferences.jobs import KnownWorker
from preferences.tables.table import Table, from_row

FORGOTTEN = 7 * 86_400.0  # seconds after which a worker that is gone is forgotten


class Workers(Table):
    """A worker's process id is part of its name, so each start is another one."""

    def publish(self, name: str, about: dict[str, Any]) -> None:
        """A worker begins; those that have been gone for a week are forgotten."""
        now = self.store.clock()
        with self.store.write() as db:
            db.execute("DELETE FROM workers WHERE seen < ?", [now - FORGOTTEN])
            db.execute("INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?)", [name, json.dumps(about), now, now])

    def see(self, name: str) -> None:
        """The worker is alive; a power cut may take that back."""
        with self.store.write(durable=False) as db:
            db.execute("UPDATE workers SET seen = ? WHERE name = ?", [self.store.clock(), name])

    def leave(self, name: str) -> None:
        """The worker ends: what it could do stays known, and that it is gone."""
        with self.store.write() as db:
            db.execute("UPDATE workers SET seen = 0 WHERE name = ?", [name])

    def newest(self) -> KnownWorker | None:
        """The one that was started last of those that were seen last, or None if there never was one."""
        row = self.row("SELECT * FROM workers ORDER BY started DESC, name LIMIT 1")
        return from_row(KnownWorker, row) if row else None
