"""What is counted as rankings come and go, so that the queue need not count: labels, splits over the top, repeats due."""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

from preferences.plan import Plan, draw, is_repeated, labels_wanted
from preferences.rankings import top_splits
from preferences.records import EQUAL, LABELS, Ranking, Study, Tiers
from preferences.tables.table import Table

PART = 50  # prompts that are looked at together
COUNTED = (
    "(SELECT count(*) FROM current_rankings AS r JOIN annotators AS a ON a.id = r.annotator"
    f" WHERE r.comparison = comparisons.id AND r.kind = 'ranking' AND r.purpose IN {LABELS} AND a.simulated = %d)"
)
SETTLE = f"UPDATE comparisons SET labels = {COUNTED % 0}, labels_simulated = {COUNTED % 1} WHERE "


class Counters(Table):
    """Kept inside the transaction that changes what they count."""

    def note(self, ranking: Ranking) -> None:
        """A row of rankings was stored."""
        self.settle([ranking.comparison])
        self._note_repeat(ranking)

    def settle(self, comparisons: Iterable[str]) -> None:
        """Count the labels of those comparisons again, and see whether they split over the best response."""
        idents = json.dumps(list(comparisons))
        with self.store.write() as db:
            db.execute(SETTLE + "id IN (SELECT value FROM json_each(?))", [idents])
            self._settle_splits("c.id IN (SELECT value FROM json_each(:which))", idents)

    def recount(self, study: Study) -> None:
        """Count everything of the study again, by the plan that it has now."""
        with self.store.write() as db:
            self._want("c.study = ?", study.id)
            db.execute(SETTLE + "study = ?", [study.id])
            self._settle_splits("c.study = :which", study.id)

    def prompts_moved(self, prompts: Iterable[str]) -> None:
        """The split of those prompts has changed, and with it how many labels their comparisons want."""
        with self.store.write():
            left = iter(prompts)
            while part := list(islice(left, PART)):
                idents = json.dumps(part)
                self._want("c.prompt IN (SELECT value FROM json_each(?))", idents)
                self._settle_splits("c.prompt IN (SELECT value FROM json_each(:which))", idents)

    def _want(self, where: str, which: str) -> None:
        """Ask the plan again how many people should rank each of those comparisons: nobody gold or equal answers."""
        rows = self.rows(
            "SELECT c.id, c.study, p.split, c.asked_by IS NOT NULL AS own, "
            "(c.origin = ? OR EXISTS (SELECT 1 FROM golds WHERE comparison = c.id)) AS nobody "
            f"FROM comparisons AS c JOIN prompts AS p ON p.id = c.prompt WHERE {where}",
            EQUAL,
            which,
        )
        plans = {ident: Plan.of(self.store.studies.get(ident).plan) for ident in {row["study"] for row in rows}}
        wanted = [
            (0 if row["nobody"] else labels_wanted(plans[row["study"]], row["id"], row["split"], row["own"]), row["id"])
            for row in rows
        ]
        self.store.db.conn.executemany("UPDATE comparisons SET wanted = ?1 WHERE id = ?2 AND wanted != ?1", wanted)

    def _settle_splits(self, where: str, which: str) -> None:
        """Want one more label where the labels are complete and split over the best response, else not."""
        sql = (
            "SELECT c.id, c.wanted, c.extra, s.plan, (SELECT json_group_array(json(tiers)) FROM (SELECT r.tiers "
            " FROM current_rankings AS r JOIN annotators AS a ON a.id = r.annotator WHERE r.comparison = c.id "
            " AND r.kind = 'ranking' AND r.purpose = 'label' AND NOT a.simulated)) AS tiers "
            f"FROM comparisons AS c JOIN studies AS s ON s.id = c.study WHERE {where} "
            "AND (c.extra > 0 OR (c.wanted > 1 AND c.labels >= c.wanted))"
        )
        changes = []
        for row in self.store.db.query(sql, {"which": which}):
            tiers: list[Tiers] = json.loads(row["tiers"])
            split = len(tiers) >= row["wanted"] > 1 and top_splits(tiers)
            extra = int(split and Plan.of(json.loads(row["plan"])).adjudicate)
            if extra != row["extra"]:
                changes.append((extra, row["id"]))
        self.store.db.conn.executemany("UPDATE comparisons SET extra = ? WHERE id = ?", changes)

    def _note_repeat(self, ranking: Ranking) -> None:
        """Whoever ranks a comparison that is repeated is asked again, once; after a withdrawal or a second time, no more."""
        row = self._asker(ranking)
        plan = Plan.of(json.loads(row["plan"]))
        db = self.store.db
        if ranking.purpose not in LABELS or ranking.kind != "ranking":
            sql = "DELETE FROM repeats_due WHERE annotator = ? AND comparison = ?"
            db.execute(sql, [ranking.annotator, ranking.comparison])
        elif is_repeated(plan, ranking.comparison) and not row["simulated"] and not row["repeated"]:
            spread = int(plan.repeat_gap * draw("gap", plan.seed, ranking.comparison, ranking.annotator))
            due = {
                "annotator": ranking.annotator, "comparison": ranking.comparison,
                "after": row["done"] + plan.repeat_gap + spread,
            }  # fmt: skip
            self.insert("repeats_due", [due], ignore=True)

    def _asker(self, ranking: Ranking) -> dict[str, Any]:
        """Of the ranking: the study's plan, whether it is simulated, whether its repeat was given, how much is done."""
        row = self.row(
            "SELECT s.plan, a.simulated, (SELECT rankings FROM tallies WHERE study = s.id AND annotator = a.id) AS done, "
            "EXISTS (SELECT 1 FROM standing_rankings AS r WHERE r.comparison = c.id AND r.annotator = a.id"
            " AND r.purpose = 'repeat') AS repeated "
            "FROM comparisons AS c JOIN studies AS s ON s.id = c.study JOIN annotators AS a ON a.id = ? WHERE c.id = ?",
            ranking.annotator,
            ranking.comparison,
        )
        assert row is not None
        return row
