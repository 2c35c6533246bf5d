"""What annotators tell the owner of a study, about one comparison or in general."""

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
