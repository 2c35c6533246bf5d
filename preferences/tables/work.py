"""Annotators' work: when, and how long."""

from typing import Any

from preferences.records import Annotator, Study
from preferences.tables.table import Table


class Work(Table):
    """Read only."""

    def acts(self, annotator: Annotator) -> list[tuple[float, int]]:
        """(when, active milliseconds) of each ranking and skip, oldest first, also of those that were changed later."""
        sql = "SELECT created, active_ms FROM rankings WHERE annotator = ? AND kind != 'withdrawal' ORDER BY created"
        return [(row["created"], row["active_ms"]) for row in self.rows(sql, annotator.id)]

    def hours(self, study: Study, since: float, until: float) -> list[dict[str, Any]]:
        """Of each annotator who did something in the study in that time: {"annotator" (name), "simulated", "rankings",
        "skips", "active_ms", "first", "last"}; also what was changed or taken back later, since it was work.
        """
        return self.rows(
            "SELECT a.name AS annotator, a.simulated, sum(r.kind = 'ranking') AS rankings, sum(r.kind = 'skip') AS skips, "
            "sum(r.active_ms) AS active_ms, min(r.created) AS first, max(r.created) AS last "
            "FROM rankings AS r JOIN comparisons AS c ON c.id = r.comparison JOIN annotators AS a ON a.id = r.annotator "
            "WHERE c.study = ? AND r.kind != 'withdrawal' AND r.created >= ? AND r.created < ? "
            "GROUP BY a.id ORDER BY a.name",
            study.id,
            since,
            until,
        )
