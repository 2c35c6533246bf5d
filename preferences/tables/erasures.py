"""Erasing people: what names them goes; their rankings stay nobody's, or go too, as each study says."""

import math
from typing import Any

from preferences.plan import Plan
from preferences.records import Annotator, Study
from preferences.tables.table import Table, from_row

DAY_SECONDS = 24 * 3600.0
DUE, CALLED_OFF = "erasure due", "erasure called off"  # kinds of events
# Of the account: logins, links, what they wrote to owners, what they were in the middle of, where they may work.
NAMED = ("sessions", "invites", "remarks", "drafts", "repeats_due", "study_annotators")
OF_STUDY = "annotator = :annotator AND comparison IN (SELECT id FROM comparisons WHERE study = :study)"


class Erasures(Table):
    """The only door through which rankings leave. The audit log keeps what was done, by ids that name nobody any more."""

    def erase(self, annotator: Annotator, actor: str = "") -> dict[str, Any]:
        """Make the account a tombstone: {"name" (the tombstone's), "kept", "deleted"} (rankings, skips and withdrawals).

        What is deleted is overwritten in the file, also in the write-ahead log unless somebody reads all the while.
        """
        with self.store.overwriting(), self.store.write() as db:
            now, counts = self.store.clock(), {"keep": 0, "delete": 0}
            for study, acts in self._acts(annotator):
                wish = Plan.of(study.plan).on_erase
                counts[wish] += acts
                if wish == "delete":
                    self._delete_rankings(study, annotator)
            for table in NAMED:
                db.execute(f"DELETE FROM {table} WHERE annotator = ?", [annotator.id])
            db.execute("UPDATE leases SET released = ? WHERE annotator = ? AND released IS NULL", [now, annotator.id])
            name = f"erased-{annotator.id[:10]}"
            db.execute(
                "UPDATE annotators SET name = ?, password_hash = '', active = 0, settings = '{}', languages = '[]', "
                "erased = ? WHERE id = ?",
                [name, now, annotator.id],
            )
            done = {"kept": counts["keep"], "deleted": counts["delete"]}
            self.store.events.add(actor, "erased", annotator.id, done)
        return {"name": name, **done}

    def due(self) -> list[Annotator]:
        """Annotators whose time is up: in each study that they worked in by its `retention_days`, and not logged in now."""
        now = self.store.clock()
        studies = [(study, Plan.of(study.plan).retention_days) for study in self.store.studies.all()]
        if not any(days for _, days in studies):
            return []  # who worked when is not looked up for nothing, at each start of the server
        last: dict[str, float] = {}  # annotator -> when the last of those times is up
        for study, days in studies:
            for ident, when in self._last_acts(study):
                ends = when + days * DAY_SECONDS if days else float("inf")
                last[ident] = max(last.get(ident, 0.0), ends)
        rows = self.rows(
            "SELECT * FROM annotators WHERE role = 'annotator' AND NOT simulated AND erased IS NULL "
            "AND id NOT IN (SELECT annotator FROM sessions WHERE expires > ?) ORDER BY name",
            now,
        )
        return [from_row(Annotator, row) for row in rows if last.get(row["id"], float("inf")) <= now]

    def sweep(self, actor: str = "", at_once: bool = False) -> list[dict[str, Any]]:
        """Erase everybody who is due and was so a day ago or longer, by an earlier sweep; what `erase` gives of each.

        Who is due for the first time is noted in the audit log, and called off by the next sweep that does not find them
        due: so nobody is erased because a clock is wrong for a while. `at_once`: erase all who are due, noted or not.
        """
        due, now = self.due(), self.store.clock()
        with self.store.write():
            noted = self.noted()
            for ident in noted.keys() - {annotator.id for annotator in due}:
                self.store.events.add(actor, CALLED_OFF, ident, {})
            for annotator in due:
                if noted.get(annotator.id, math.inf) > now:  # or it was noted while the clock was ahead
                    self.store.events.add(actor, DUE, annotator.id, {})
        ripe = [one for one in due if at_once or noted.get(one.id, now) <= now - DAY_SECONDS]
        return [self.erase(annotator, actor) for annotator in ripe]

    def noted(self) -> dict[str, float]:
        """Who (an id) will be erased, and when that was noted in the audit log last."""
        rows = self.rows(
            "SELECT e.subject, e.at FROM annotators AS a CROSS JOIN events AS e ON e.subject = a.id AND e.kind = ? "
            "WHERE a.erased IS NULL AND NOT EXISTS (SELECT 1 FROM events AS later WHERE later.subject = a.id "
            "AND later.kind = ? AND later.id > e.id) ORDER BY e.id",
            DUE,
            CALLED_OFF,
        )
        return {row["subject"]: row["at"] for row in rows}

    def _acts(self, annotator: Annotator) -> list[tuple[Study, int]]:
        sql = (
            "SELECT c.study, count(*) AS acts FROM rankings AS r JOIN comparisons AS c ON c.id = r.comparison "
            "WHERE r.annotator = ? GROUP BY c.study"
        )
        return [(self.store.studies.get(row["study"]), row["acts"]) for row in self.rows(sql, annotator.id)]

    def _last_acts(self, study: Study) -> list[tuple[str, float]]:
        sql = (
            "SELECT r.annotator, max(r.created) AS last FROM comparisons AS c JOIN rankings AS r ON r.comparison = c.id "
            "WHERE c.study = ? GROUP BY r.annotator"
        )
        return [(row["annotator"], row["last"]) for row in self.rows(sql, study.id)]

    def _delete_rankings(self, study: Study, annotator: Annotator) -> None:
        which = {"study": study.id, "annotator": annotator.id}
        with self.store.write() as db:
            rows = self.store.db.query(f"SELECT DISTINCT comparison FROM rankings WHERE {OF_STUDY}", which)
            comparisons = [row["comparison"] for row in rows]
            self.insert("erasures", [{**which, "at": self.store.clock()}], ignore=True)
            db.execute(f"DELETE FROM outdated WHERE ranking IN (SELECT id FROM rankings WHERE {OF_STUDY})", which)
            for table in ("rankings", "leases"):
                db.execute(f"DELETE FROM {table} WHERE {OF_STUDY}", which)
            for table in ("tallies", "qualifications", "exclusions"):
                db.execute(f"DELETE FROM {table} WHERE study = :study AND annotator = :annotator", which)
            self.store.counters.settle(comparisons)
