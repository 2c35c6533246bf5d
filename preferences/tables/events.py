"""The audit log."""

import json
from typing import Any

from preferences.records import Event
from preferences.tables.table import Table, from_row


class Events(Table):
    """Append-only."""

    def add(self, actor: str, kind: str, subject: str, detail: dict[str, Any]) -> None:
        """Note that `actor` (an account's id, or "" for a program) did something to `subject` (an id)."""
        row = {"at": self.store.clock(), "actor": actor, "kind": kind, "subject": subject, "detail": json.dumps(detail)}
        self.insert("events", [row])

    def newest(self, limit: int = 100) -> list[Event]:
        """The newest events, newest first."""
        return [from_row(Event, row) for row in self.rows("SELECT * FROM events ORDER BY id DESC LIMIT ?", limit)]
