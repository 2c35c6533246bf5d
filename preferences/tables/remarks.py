"""What annotators tell the owner of a study, about one comparison or in general."""

import json
from dataclasses import replace

from preferences.errors import UnknownName
from preferences.records import Annotator, Remark, Study, content_id
from preferences.tables.table import Table, from_row, to_row


class Remarks(Table):
    """Each is stored once: `nonce` is made by the page, so that a retry is known."""

    def add(self, annotator: Annotator, study: Study, text: str, nonce: str, comparison: str | None = None) -> Remark:
        """Store a remark on the study, or on that of the comparison. Raises UnknownName for one that was not theirs."""
        ident = content_id("remark", annotator.id, nonce)
        made = Remark(ident, study.id, annotator.id, comparison, text, self.store.clock())
        with self.store.write():
            given = "SELECT 1 FROM leases WHERE comparison = ? AND annotator = ?"
            if comparison and not self.row(given, comparison, annotator.id):
                raise UnknownName("You were not given that comparison; write about the one that is shown.")
            if comparison:
                made = replace(made, study=self.store.comparisons.get(comparison).study)
            self.insert("remarks", [to_row(made)], ignore=True)
        return made

    def all(self, study: str | None = None) -> list[Remark]:
        """The remarks (on one study, its id), newest first."""
        sql = "SELECT * FROM remarks WHERE (? IS NULL OR study = ?) ORDER BY created DESC, rowid DESC"
        return [from_row(Remark, row) for row in self.rows(sql, study, study)]

    def get(self, ident: str) -> Remark:
        """The remark of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM remarks WHERE id = ?", ident)
        if row is None:
            raise UnknownName("There is no such message; choose one of the list.")
        return from_row(Remark, row)

    def set_done(self, remark: Remark, done: bool, actor: str) -> Remark:
        """The remark as done with, or as open again; `actor`: the account that says so."""
        at = self.store.clock() if done else None
        with self.store.write() as db:
            db.execute("UPDATE remarks SET done = ? WHERE id = ?", [at, remark.id])
            self.store.events.add(actor, "remark done" if done else "remark open", remark.id, {})
        return replace(remark, done=at)

    def order_seen(self, remark: Remark) -> list[str]:
        """The responses of its comparison in the order in which its author was shown them last; none if it is of none."""
        row = self.row(
            "SELECT shown FROM leases WHERE comparison = ? AND annotator = ? ORDER BY rowid DESC LIMIT 1",
            remark.comparison,
            remark.annotator,
        )
        order: list[str] = json.loads(row["shown"]) if row else []
        return order
