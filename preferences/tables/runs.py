"""Training runs that have ended: where each is, and what its config.json says."""

import json
from typing import Any

from preferences.errors import UnknownName
from preferences.jobs import KnownRun
from preferences.records import content_id
from preferences.tables.table import Table, from_row, to_row


class Runs(Table):
    """A run's id hashes its folder: one that goes on later is the same run."""

    def note(self, folder: str, document: dict[str, Any], study: str | None = None) -> KnownRun:
        """Keep what the run's config.json says now."""
        made = KnownRun(
            content_id("run", folder), str(document["stage"]), folder, study, document, self.store.clock()
        )  # fmt: skip
        with self.store.write() as db:
            if not self.insert("runs", [to_row(made)], ignore=True):
                db.execute(
                    "UPDATE runs SET stage = ?, study = ?, document = ?, updated = ? WHERE id = ?",
                    [made.stage, made.study, json.dumps(document, ensure_ascii=False), made.updated, made.id],
                )
        return made

    def get(self, ident: str) -> KnownRun:
        """The run of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM runs WHERE id = ?", ident)
        if row is None:
            raise UnknownName(f"There is no run {ident!r}.")
        return from_row(KnownRun, row)

    def all(self) -> list[KnownRun]:
        """Every run, the one that was noted first before the others."""
        return [from_row(KnownRun, row) for row in self.rows("SELECT * FROM runs ORDER BY rowid")]
