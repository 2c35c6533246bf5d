"""What a worker on another host is lent of the database for one job, and what it has added to that.

What is lent is a database of its own, which the stages read and write like any other. It has no names, passwords, sessions
or reasons: annotators are their random ids.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preferences.jobs import Job
from preferences.records import Comparison, Policy, Response, Study
from preferences.tables.table import Table, from_row, to_row

ADDED_TO = (
    "policies",
    "responses",
    "comparisons",
    "study_policies",
    "spot_checks",
)  # tables in which a stage adds rows
# What of an annotator and of a ranking is put in the place of what says who somebody is.
NOBODY = {
    "name": "id", "role": "'annotator'", "password_hash": "''", "settings": "'{}'", "languages": "'[]'", "active": "1",
}  # fmt: skip
UNSAID = {"reason": "''", "rewrite": "''", "rewrite_of": "NULL", "guideline": "NULL", "nonce": "id"}
IN_STUDY = "c.study = :study AND (:prompts IS NULL OR c.prompt IN (SELECT value FROM json_each(:prompts)))"


@dataclass(frozen=True, slots=True)
class Loan:
    """What of a study a job needs: which prompts (ids; None: all of that split, or of both), and of these the answers
    and comparisons, and the rankings. `annotator`: the id of whoever waits for it, or None."""

    prompts: list[str] | None = None
    split: str | None = None
    answers: bool = False
    rankings: bool = False
    annotator: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What a stage has added to a lent database, in the order in which it belongs into the labeler's.

    `sampling`: the ids of the policies that it lets answer the study's prompts, if it says so.
    """

    policies: list[Policy]
    responses: list[Response]
    provenance: dict[str, dict[str, Any]]
    comparisons: list[Comparison]
    sampling: list[str] | None
    scores: dict[str, dict[str, float]]
    spot_checks: list[dict[str, Any]]

    def __bool__(self) -> bool:
        return bool(
            self.policies or self.responses or self.comparisons or self.sampling or self.scores or self.spot_checks
        )


class Lent(Table):
    """Both sides: `fill` makes a lent database out of this one; the others read what was added to this one, if it is lent."""

    def fill(self, path: Path, study: Study, loan: Loan, job: Job) -> None:
        """A new database at `path` with what the job needs, all of one moment; its one job is `job`."""
        from preferences.store import Store, without_foreign_keys  # this module is part of it

        lent = Store(path, self.store.clock)
        try:
            lent.db.execute("ATTACH ? AS source", [f"{self.store.path.absolute().as_uri()}?mode=ro"])
            with without_foreign_keys(lent.db), lent.write():
                _copy(lent, study, loan)
                lent.jobs.insert("jobs", [to_row(job)])
            lent.db.execute("DETACH source")
            lent.settle()
        finally:
            lent.close()

    def place(self, root: str) -> None:
        """Adapters are found below that folder from now on, and not at the paths of the labeler's host."""
        with self.store.write() as db:
            db.execute("UPDATE policies SET adapter = ? || adapter WHERE adapter IS NOT NULL", [root])

    def adopt(self, job: Job) -> None:
        """The job is as it is said to be."""
        row = to_row(job)
        with self.store.write() as db:
            db.execute(f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in row)} WHERE id = :id", row)

    def mark(self) -> dict[str, int]:
        """How many rows there are of what stages add to: the number of the last row of each table."""
        found = {table: self.number(f"SELECT coalesce(max(rowid), 0) FROM {table}") for table in ADDED_TO}
        return {**found, "scores": self.number("SELECT count(*) FROM scores")}

    def added(self, since: Mapping[str, int]) -> Added:
        """What was added after that mark. To be called in a snapshot, with `mark` and the job's progress."""
        comparisons = [row["id"] for row in self._rows_after("comparisons", since)]
        responses = [row["id"] for row in self._rows_after("responses", since)]
        by_id = self.store.responses.get_many(responses)
        sampling = [row["policy"] for row in self._rows_after("study_policies", since) if row["until"] is None]
        return Added(
            [from_row(Policy, row) for row in self._rows_after("policies", since)],
            [by_id[ident] for ident in responses],
            self.store.responses.provenance(responses),
            self.store.comparisons.get_many(comparisons),
            sampling or None,
            self._scores() if self.number("SELECT count(*) FROM scores") > since["scores"] else {},
            self._rows_after("spot_checks", since),
        )

    def _rows_after(self, table: str, since: Mapping[str, int]) -> list[dict[str, Any]]:
        return self.rows(f"SELECT * FROM {table} WHERE rowid > ? ORDER BY rowid", since[table])

    def _scores(self) -> dict[str, dict[str, float]]:
        """Reward model -> response -> score; all of them, since they lie in no order of time."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows("SELECT reward, response, score FROM scores"):
            found.setdefault(row["reward"], {})[row["response"]] = row["score"]
        return found


def _copy(lent: Any, study: Study, loan: Loan) -> None:
    """Rows of the attached `source`, those that others refer to first or last as the triggers like it."""
    where = {
        "study": study.id, "prompts": None if loan.prompts is None else json.dumps(loan.prompts), "split": loan.split,
        "annotator": loan.annotator,
    }  # fmt: skip
    asked = (
        "id IN (SELECT prompt FROM source.study_prompts WHERE study = :study AND :prompts IS NULL "
        "UNION ALL SELECT prompt FROM source.comparisons WHERE study = :study AND :prompts IS NULL "
        "UNION ALL SELECT value FROM json_each(:prompts)) AND (:split IS NULL OR split = :split)"
    )
    _rows(lent, "policies", "1", where)
    _rows(lent, "prompts", asked, where)
    _rows(lent, "study_prompts", "study = :study AND prompt IN (SELECT id FROM main.prompts)", where)
    if loan.answers:
        _rows(lent, "comparisons", f"id IN (SELECT c.id FROM source.comparisons AS c WHERE {IN_STUDY})", where)
        _rows(lent, "comparison_responses", "comparison IN (SELECT id FROM main.comparisons)", where)
        _rows(lent, "responses", "prompt IN (SELECT id FROM main.prompts)", where)
        _rows(lent, "texts", "id IN (SELECT text FROM main.responses)", where)
        _rows(lent, "scores", "response IN (SELECT id FROM main.responses)", where)
    people = "id = :annotator OR id IN (SELECT asked_by FROM main.comparisons)"
    if loan.rankings:
        people += " OR id IN (SELECT annotator FROM main.rankings)"
        _rows(lent, "rankings", "comparison IN (SELECT id FROM main.comparisons)", where, UNSAID)
        _rows(lent, "outdated", "ranking IN (SELECT id FROM main.rankings)", where)
        _rows(lent, "exclusions", "study = :study", where, {"reason": "''", "actor": "''"})
        _rows(lent, "runs", "study = :study", where)
    _rows(lent, "annotators", people, where, NOBODY)
    # Last: what was put in before it has counted nothing in it.
    _rows(lent, "studies", "id = :study", where)
    _rows(lent, "study_policies", "study = :study", where)


def _rows(
    lent: Any, table: str, where: str, values: Mapping[str, Any], instead: Mapping[str, str] | None = None
) -> None:
    """Copy the rows of a table, some of its columns with something else in their place."""
    names: Iterable[str] = [row[1] for row in lent.db.execute(f"PRAGMA source.table_info({table})")]
    chosen = ", ".join((instead or {}).get(name, name) for name in names)
    order = "" if table in ("study_prompts", "comparison_responses", "scores", "outdated") else " ORDER BY rowid"
    used = {name: value for name, value in values.items() if f":{name}" in where}
    lent.db.execute(
        f"INSERT INTO main.{table} ({', '.join(names)}) SELECT {chosen} FROM source.{table} WHERE {where}{order}", used
    )
