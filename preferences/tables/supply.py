"""What can be ranked: the comparisons that still want a label, repeats that are due, gold that is new to an annotator.

A comparison has room while fewer people have ranked it, or are ranking it now, than the study wants. Simulated annotators
are counted apart, so that they never take a place that a person is wanted for.
"""

import json
from datetime import datetime
from typing import Any

from preferences.plan import Plan, gold_phases
from preferences.records import LABELS, Annotator, Candidate, Offer, Purpose, Study
from preferences.tables.table import Table

OPEN_LEASE = "l.released IS NULL AND l.expires > :now"
WINDOW = 60  # how many open comparisons of a kind there are to choose from
# Which labels are counted, and up to how many: of people, of simulated annotators. The indexes say it in the same words.
ROOM = {False: ("labels", "wanted + extra"), True: ("labels_simulated", "wanted")}


# Prompts in a language that the annotator is given, without a topic that they avoid.
SUITS = (
    "(:languages = '[]' OR p.language = '' OR p.language IN (SELECT value FROM json_each(:languages))) AND "
    "(:avoid = '[]' OR NOT EXISTS (SELECT 1 FROM json_each(p.tags) AS tag JOIN json_each(:avoid) AS topic"
    " ON topic.value = tag.value))"
)


def candidates_sql(simulated: bool) -> str:
    """Open comparisons that an annotator has neither ranked nor skipped: own prompts, and two windows on the others.

    One is for those that somebody has begun, one for those that nobody has, so that neither starves; both are read off an
    index, the urgent and then the oldest first, and only as far as it takes to fill the window.
    """
    labels, most = ROOM[simulated]
    held = (
        "SELECT l.comparison, count(*) AS leases FROM leases AS l INDEXED BY leases_by_expiry"
        " CROSS JOIN annotators AS a ON a.id = l.annotator"
        f" WHERE {OPEN_LEASE} AND l.annotator != :annotator AND a.simulated = {int(simulated)}"
        f" AND l.purpose IN {LABELS} GROUP BY l.comparison"
    )

    def part(index: str, which: str) -> str:
        return (
            f"SELECT * FROM (SELECT c.id AS comparison, p.split, c.priority, c.{labels} AS labels,"
            f" coalesce(held.leases, 0) AS leases, c.created, iif(c.{labels} < c.wanted, 'label', 'adjudication') AS purpose,"
            f" c.rowid AS line FROM comparisons AS c INDEXED BY {index} LEFT JOIN held ON held.comparison = c.id"
            f" CROSS JOIN prompts AS p ON p.id = c.prompt WHERE c.study = :study AND {which} AND {labels} < {most}"
            f" AND {labels} + coalesce(held.leases, 0) < {most}"
            " AND NOT EXISTS (SELECT 1 FROM standing_rankings AS r WHERE r.comparison = c.id"
            "  AND r.annotator = :annotator AND NOT EXISTS (SELECT 1 FROM outdated WHERE ranking = r.id))"
            f" AND {SUITS} ORDER BY c.priority DESC, c.created LIMIT :window)"
        )

    index = "comparisons_open_simulated" if simulated else "comparisons_open"
    parts = [part("comparisons_asked_by", "asked_by = :annotator")]
    parts += [part(index, f"({labels} > 0) = {begun} AND asked_by IS NULL") for begun in (1, 0)]
    return (
        f"WITH held AS MATERIALIZED ({held}) SELECT comparison, split, priority, labels, leases, created, purpose"
        f" FROM ({' UNION ALL '.join(parts)}) ORDER BY priority DESC, created, line LIMIT :limit"
    )


def midnight(now: float) -> float:
    """When the day began, by the clock of this machine."""
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def tastes(annotator: Annotator | None) -> dict[str, str]:
    """The parameters of SUITS."""
    return {
        "languages": json.dumps(annotator.languages if annotator else []),
        "avoid": json.dumps((annotator.settings.get("avoid") if annotator else None) or []),
    }


class Supply(Table):
    """Reads; each query costs the same however many comparisons there are, but for the last few of a study."""

    def candidates(self, study: Study, annotator: Annotator | None = None, limit: int = 200) -> list[Candidate]:
        """What the annotator (or anybody who has ranked nothing) may rank next; urgent first, then oldest.

        Left out: prompts in languages that they are not given or with a tag that they avoid, and own prompts of others.
        """
        sql = candidates_sql(bool(annotator and annotator.simulated))
        parameters = {
            "study": study.id, "annotator": annotator.id if annotator else "", "now": self.store.clock(), "limit": limit,
            "window": WINDOW, **tastes(annotator),
        }  # fmt: skip
        return [Candidate(*row) for row in self.store.db.conn.execute(sql, parameters)]

    def waiting(self, study: Study) -> int:
        """How many comparisons still want a person's label and are not in enough hands."""
        sql = (
            # CROSS: from the few open leases to their comparisons, never through all of the study's.
            "SELECT count(*) FROM (SELECT c.id FROM leases AS l INDEXED BY leases_by_expiry "
            "CROSS JOIN comparisons AS c ON c.id = l.comparison "
            f"CROSS JOIN annotators AS a ON a.id = l.annotator WHERE {OPEN_LEASE} AND NOT a.simulated "
            f"AND l.purpose IN {LABELS} AND c.study = :study AND c.labels < c.wanted + c.extra "
            "GROUP BY c.id HAVING c.labels + count(DISTINCT l.annotator) >= c.wanted + c.extra)"
        )
        taken = self.store.db.execute(sql, {"study": study.id, "now": self.store.clock()}).fetchone()[0]
        return self.number("SELECT open FROM studies WHERE id = ?", study.id) - int(taken)

    def has_room(self, comparison: str, annotator: Annotator) -> bool:
        """Whether one more person could begin: the annotator's label would not be one too many, were all leases answered.

        A label of theirs that counts has its place already.
        """
        labels, most = ROOM[annotator.simulated]
        sql = (
            f"SELECT {labels} + (SELECT count(DISTINCT l.annotator) FROM leases AS l "
            "JOIN annotators AS a ON a.id = l.annotator "
            f"WHERE l.comparison = c.id AND l.annotator != :annotator AND a.simulated = :simulated "
            f"AND l.purpose IN {LABELS} AND {OPEN_LEASE}) < {most} FROM comparisons AS c WHERE c.id = :comparison"
        )
        parameters = {
            "comparison": comparison, "annotator": annotator.id, "simulated": int(annotator.simulated),
            "now": self.store.clock(),
        }  # fmt: skip
        room = bool(self.store.db.execute(sql, parameters).fetchone()[0])
        return room or annotator.id in self._labelled(comparison, annotator)

    def has_place(self, comparison: str, annotator: Annotator, purpose: Purpose) -> bool:
        """Whether the annotator's answer for that purpose would not be one too many, whoever else may be ranking it now.

        A lease that ran out and was had again, a clock that was set back, or a plan that wants fewer can leave more leases
        than places: then whoever answers first has the place.
        """
        if purpose not in LABELS:
            return True
        given = self._labelled(comparison, annotator)
        wanted = self.number("SELECT wanted FROM comparisons WHERE id = ?", comparison)
        most = 1 if purpose == "adjudication" else wanted
        return annotator.id in given or list(given.values()).count(purpose) < most

    def _labelled(self, comparison: str, annotator: Annotator) -> dict[str, Purpose]:
        """Who gave a label that counts, people or simulated annotators as the annotator is, and for which purpose."""
        sql = (
            "SELECT r.annotator, r.purpose FROM current_rankings AS r JOIN annotators AS a ON a.id = r.annotator "
            f"WHERE r.comparison = ? AND r.kind = 'ranking' AND r.purpose IN {LABELS} AND a.simulated = ?"
        )
        return dict(self.store.db.conn.execute(sql, [comparison, int(annotator.simulated)]).fetchall())

    def has_prompts_for(self, study: Study, annotator: Annotator) -> bool:
        """Whether any prompt of the study could be given to the annotator."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM study_prompts JOIN prompts AS p ON p.id = prompt "
            f"WHERE study = :study AND {SUITS})"
        )
        return bool(self.store.db.execute(sql, {"study": study.id, **tastes(annotator)}).fetchone()[0])

    def offer(self, study: Study, annotator: Annotator, ahead: int = 0) -> Offer:
        """All that the annotator could be given next; simulated annotators get neither gold nor repeats.

        `ahead`: how many tasks they have in hand already.
        """
        if self.refusal(study, annotator, ahead):
            return Offer([])
        if annotator.simulated:
            return Offer(self.candidates(study, annotator))
        plan = Plan.of(study.plan)
        done = self.done(study, annotator) + ahead
        first, later = self.golds_unseen(study, annotator, plan)
        if first:
            return Offer([], golds=first, qualifying=True, done=done)
        repeats = self.repeats_due(study, annotator, done - ahead)
        return Offer(self.candidates(study, annotator), repeats, later, False, plan.gold, done)

    def refusal(self, study: Study, annotator: Annotator, ahead: int = 0) -> str | None:
        """Why the annotator gets nothing of the study now ("excluded", "quota", "unqualified"), or None."""
        if annotator.simulated:
            return None
        sql = "SELECT 1 FROM exclusions WHERE annotator = ? AND study = ? AND lifted IS NULL"
        if self.row(sql, annotator.id, study.id):
            return "excluded"
        plan = Plan.of(study.plan)
        if plan.quota and self.done(study, annotator) + ahead >= plan.quota:
            return "quota"
        if plan.quota_day and self.done_today(study, annotator) + ahead >= plan.quota_day:
            return "quota"
        failed = "SELECT 1 FROM qualifications WHERE annotator = ? AND study = ? AND NOT passed"
        return "unqualified" if self.row(failed, annotator.id, study.id) else None

    def done(self, study: Study, annotator: Annotator) -> int:
        """How much the annotator has ranked in the study, repeats and gold included."""
        sql = "SELECT coalesce(sum(rankings), 0) FROM tallies WHERE study = ? AND annotator = ?"
        return self.number(sql, study.id, annotator.id)

    def team(self, study: Study) -> int:
        """How much all have ranked in the study, repeats and gold included."""
        return self.number("SELECT coalesce(sum(rankings), 0) FROM tallies WHERE study = ?", study.id)

    def done_today(self, study: Study, annotator: Annotator) -> int:
        """How much of it since midnight, by the clock of this machine."""
        sql = (
            "SELECT count(*) FROM standing_rankings AS r JOIN comparisons AS c ON c.id = r.comparison "
            "WHERE r.annotator = ? AND r.created >= ? AND r.kind = 'ranking' AND c.study = ?"
        )
        return self.number(sql, annotator.id, midnight(self.store.clock()), study.id)

    def repeats_due(self, study: Study, annotator: Annotator, done: int) -> list[str]:
        """What the annotator ranked long enough ago and is asked again: the longest due, if any."""
        sql = (
            "SELECT d.comparison FROM repeats_due AS d INDEXED BY repeats_in_order CROSS JOIN comparisons AS c "
            "ON c.id = d.comparison WHERE d.annotator = :annotator AND d.after <= :done AND c.study = :study AND NOT EXISTS "
            "(SELECT 1 FROM leases AS l WHERE l.comparison = d.comparison AND l.annotator = :annotator "
            f" AND {OPEN_LEASE}) ORDER BY d.after, d.comparison LIMIT 1"
        )
        parameters = {"annotator": annotator.id, "study": study.id, "done": done, "now": self.store.clock()}
        return [comparison for (comparison,) in self.store.db.conn.execute(sql, parameters)]

    def golds_unseen(self, study: Study, annotator: Annotator, plan: Plan) -> tuple[list[str], list[str]]:
        """Gold that the annotator has not ranked: what is left of the qualification, and what comes unnoticed later."""
        rows = self._golds(study, annotator)
        if not rows:
            return [], []
        passed = "SELECT 1 FROM qualifications WHERE annotator = ? AND study = ? AND passed"
        first, later = gold_phases(plan, rows)
        if self.row(passed, annotator.id, study.id):
            first = []
        return [gold for gold in first if not rows[gold]], [gold for gold in later if not rows[gold]]

    def _golds(self, study: Study, annotator: Annotator) -> dict[str, Any]:
        """Gold comparison -> whether the annotator has ranked or skipped it, or has it open."""
        sql = (
            "SELECT g.comparison, EXISTS (SELECT 1 FROM standing_rankings AS r WHERE r.comparison = g.comparison "
            "AND r.annotator = :annotator) OR EXISTS (SELECT 1 FROM leases AS l WHERE l.comparison = g.comparison "
            f"AND l.annotator = :annotator AND {OPEN_LEASE}) AS seen FROM golds AS g WHERE g.study = :study"
        )
        parameters = {"annotator": annotator.id, "study": study.id, "now": self.store.clock()}
        return dict(self.store.db.conn.execute(sql, parameters).fetchall())
