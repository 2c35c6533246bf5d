"""What a study does not count: rankings of annotators who are excluded, and of instructions that were left behind."""

import json

from preferences.errors import NameTaken, UnknownName
from preferences.records import Annotator, Exclusion, Study
from preferences.tables.table import Table, from_row


class Exclusions(Table):
    """Nothing is deleted; the view `current_rankings`, which all counting reads, leaves out what is named here.

    What loses a label this way goes back into the queue.
    """

    def exclude(self, study: Study, annotator: Annotator, reason: str, actor: str = "") -> int:
        """Count none of the annotator's rankings, and give them no more; how many that were. Raises NameTaken."""
        with self.store.write() as db:
            if self.row(
                "SELECT 1 FROM exclusions WHERE study = ? AND annotator = ? AND lifted IS NULL", study.id, annotator.id
            ):
                raise NameTaken(f"{annotator.name} is excluded from study {study.name!r} already.")
            now = self.store.clock()
            row = {"study": study.id, "annotator": annotator.id, "reason": reason, "actor": actor, "since": now}
            self.insert("exclusions", [row])
            db.execute(
                "UPDATE leases SET released = ? WHERE annotator = ? AND released IS NULL "
                "AND comparison IN (SELECT id FROM comparisons WHERE study = ?)",
                [now, annotator.id, study.id],
            )
            detail = {"annotator": annotator.id, "reason": reason}
            self.store.events.add(actor, "exclusion", study.id, detail)
            return self._settle(study, annotator)

    def lift(self, study: Study, annotator: Annotator, actor: str = "") -> int:
        """Count the annotator's rankings again, also where others have filled their places since; how many these are.

        Raises UnknownName if they are not excluded.
        """
        with self.store.write() as db:
            lifted = db.execute(
                "UPDATE exclusions SET lifted = ? WHERE study = ? AND annotator = ? AND lifted IS NULL",
                [self.store.clock(), study.id, annotator.id],
            ).rowcount
            if not lifted:
                raise UnknownName(f"{annotator.name} is not excluded from study {study.name!r}.")
            self.store.events.add(actor, "exclusion lifted", study.id, {"annotator": annotator.id})
            return self._settle(study, annotator)

    def all(self, study: Study) -> list[Exclusion]:
        """Every exclusion of the study, also those that were lifted, oldest first."""
        return [from_row(Exclusion, row) for row in self.rows("SELECT * FROM exclusions WHERE study = ?", study.id)]

    def requeue_outdated(self, study: Study, actor: str = "") -> int:
        """Count no ranking that was made before the newest instructions, so that all of it is ranked again; how many.

        Also by those who ranked it: their new ranking supersedes the old one. Raises UnknownName without instructions.
        """
        with self.store.write() as db:
            newest = self.store.studies.guideline(study)
            if newest is None:
                raise UnknownName(f"Study {study.name!r} has no guidelines, so none are outdated; set them first.")
            rows = self.rows(
                "SELECT r.id, r.comparison FROM current_rankings AS r JOIN comparisons AS c ON c.id = r.comparison "
                "WHERE c.study = ? AND r.guideline IS NOT ? AND r.purpose != 'gold'",
                study.id,
                newest.id,
            )
            now = self.store.clock()
            self.insert("outdated", [{"ranking": row["id"], "guideline": newest.id, "at": now} for row in rows])
            db.execute(
                "DELETE FROM repeats_due WHERE comparison IN (SELECT value FROM json_each(?))",
                [json.dumps([row["comparison"] for row in rows])],
            )
            self.store.counters.settle({row["comparison"] for row in rows})
            detail = {"guideline": newest.version, "rankings": len(rows)}
            self.store.events.add(actor, "requeue", study.id, detail)
        return len(rows)

    def _settle(self, study: Study, annotator: Annotator) -> int:
        rows = self.rows(
            "SELECT r.comparison FROM standing_rankings AS r JOIN comparisons AS c ON c.id = r.comparison "
            "WHERE r.annotator = ? AND c.study = ?",
            annotator.id,
            study.id,
        )
        self.store.counters.settle({row["comparison"] for row in rows})
        return len(rows)
