"""Answers that people look at because a policy that has learned to please its reward would give such ones."""

from collections.abc import Sequence
from typing import Any

from preferences.errors import RankloopError, UnknownName
from preferences.records import Annotator, SpotCheck, Study, content_id
from preferences.tables.table import Table, from_row, to_row


class SpotChecks(Table):
    """The verdicts are append-only; the last one of each person counts."""

    def add(self, study: Study, kind: str, answers: Sequence[tuple[str, float, str | None]]) -> int:
        """Queue answers of that kind: (response, what is odd about it in a number, the response that it is held against).

        The number that was new: a response is looked at once a kind.
        """
        rows = [
            to_row(
                SpotCheck(
                    content_id("spot check", study.id, kind, response), study.id, response, kind, value, baseline,
                    self.store.clock(),
                )
            )
            for response, value, baseline in answers
        ]  # fmt: skip
        return self.insert("spot_checks", rows, ignore=True)

    def get(self, ident: str) -> SpotCheck:
        """The check of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM spot_checks WHERE id = ?", ident)
        if row is None:
            raise UnknownName("There is no such answer to check; load the page again.")
        return from_row(SpotCheck, row)

    def next(self, study: Study, annotator: Annotator, kind: str | None = None) -> SpotCheck | None:
        """The oddest answer (of that kind) that the annotator has not judged; of the newest queue first."""
        sql = (
            "SELECT s.* FROM spot_checks AS s WHERE s.study = :study AND (:kind IS NULL OR s.kind = :kind) "
            "AND NOT EXISTS (SELECT 1 FROM spot_verdicts WHERE spot_check = s.id AND annotator = :annotator) "
            "ORDER BY s.created DESC, s.value DESC, s.id LIMIT 1"
        )
        found = self.store.db.query(sql, {"study": study.id, "kind": kind, "annotator": annotator.id})
        return next((from_row(SpotCheck, row) for row in found), None)

    def judge(self, ident: str, annotator: Annotator, passed: bool, note: str = "") -> None:
        """Store what somebody thinks of it. Raises UnknownName."""
        check = self.get(ident)
        if len(note) > 2000:
            raise RankloopError("A note has at most 2,000 characters; make it shorter.")
        row = {
            "spot_check": check.id, "annotator": annotator.id, "passed": int(passed), "note": note,
            "created": self.store.clock(),
        }  # fmt: skip
        self.insert("spot_verdicts", [row])

    def outcomes(self, study: Study) -> list[dict[str, Any]]:
        """By policy and kind: {"policy", "kind", "queued", "judged", "passed"}; `judged`, `passed`: verdicts of people."""
        sql = (
            "WITH last AS (SELECT spot_check, annotator, passed, row_number() OVER (PARTITION BY spot_check, annotator "
            " ORDER BY created DESC, rowid DESC) AS place FROM spot_verdicts) "
            "SELECT p.name AS policy, s.kind, count(DISTINCT s.id) AS queued, count(last.passed) AS judged, "
            "coalesce(sum(last.passed), 0) AS passed FROM spot_checks AS s JOIN responses AS r ON r.id = s.response "
            "JOIN policies AS p ON p.id = r.policy LEFT JOIN last ON last.spot_check = s.id AND last.place = 1 "
            "WHERE s.study = ? GROUP BY p.name, s.kind ORDER BY max(p.created) DESC, p.name, s.kind"
        )
        return self.rows(sql, study.id)
