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

    def about(self, subject: str, *kinds: str) -> list[Event]:
        """The events of those kinds about one subject, oldest first."""
        sql = "SELECT * FROM events WHERE subject = ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY id"
        return [from_row(Event, row) for row in self.rows(sql, subject, json.dumps(kinds))]

    def newest(self, limit: int = 100, actor: str | None = None, since: float = 0.0) -> list[Event]:
        """The newest events, newest first: of all or of one actor, from that time on."""
        sql = "SELECT * FROM events WHERE (? IS NULL OR actor = ?) AND at >= ? ORDER BY id DESC LIMIT ?"
        return [from_row(Event, row) for row in self.rows(sql, actor, actor, since, limit)]
