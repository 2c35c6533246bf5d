"""Gold: comparisons whose good answer is known, and who has passed the qualification that begins with them."""

from preferences.errors import NameTaken
from preferences.plan import Plan, gold_phases
from preferences.rankings import agreement, check_tiers, pairs
from preferences.records import Annotator, Comparison, Gold, Ranking, Study, Tiers
from preferences.tables.rankings import STANDING
from preferences.tables.table import Table, from_row, to_row


class Golds(Table):
    """A gold comparison is nobody's label: it is ranked for its own sake, by everybody once."""

    def add(self, comparison: Comparison, tiers: Tiers, explanation: str = "") -> Gold:
        """Make a comparison gold. Raises BadTiers; and NameTaken if it is gold with another answer already."""
        check_tiers(tiers, comparison.items)
        made = Gold(comparison.id, comparison.study, tiers, explanation, self.store.clock())
        with self.store.write() as db:
            known = self.get(comparison.id)
            if known and (known.tiers, known.explanation) == (tiers, explanation):
                return known
            if known:
                raise NameTaken(f"Comparison {comparison.id} is gold with another answer; remove that one first.")
            self.insert("golds", [to_row(made)])
            db.execute("UPDATE comparisons SET wanted = 0, extra = 0 WHERE id = ?", [comparison.id])
            self.store.events.add("", "gold", comparison.id, {"tiers": tiers})
        return made

    def remove(self, comparison: Comparison) -> None:
        """The comparison is like any other again; what was ranked as gold stays so."""
        with self.store.write() as db:
            db.execute("DELETE FROM golds WHERE comparison = ?", [comparison.id])
            self.store.counters.recount(self.store.studies.get(comparison.study))
            self.store.events.add("", "gold removed", comparison.id, {})

    def get(self, comparison: str) -> Gold | None:
        """The gold of that comparison, or None."""
        row = self.row("SELECT * FROM golds WHERE comparison = ?", comparison)
        return from_row(Gold, row) if row else None

    def all(self, study: Study) -> list[Gold]:
        """The study's gold, oldest first."""
        rows = self.rows("SELECT * FROM golds WHERE study = ? ORDER BY created, comparison", study.id)
        return [from_row(Gold, row) for row in rows]

    def is_explained(self, study: Study, comparison: str) -> bool:
        """Whether it belongs to the qualification, whose gold is explained once it is ranked."""
        golds = [gold.comparison for gold in self.all(study)]
        return comparison in gold_phases(Plan.of(study.plan), golds)[0]

    def score(self, annotator: Annotator, comparisons: list[str]) -> float | None:
        """The share of those golds' pairs that the annotator orders as the gold does; None if there is no such pair.

        What they skipped counts as ordered wrongly, what they did not compare (between best and worst) not at all; the
        share is over all pairs together.
        """
        right = total = 0.0
        sql = STANDING + "WHERE r.comparison = ? AND r.annotator = ? AND r.purpose = 'gold'"
        for comparison in comparisons:
            gold = self.get(comparison)
            assert gold is not None
            row = self.row(sql, comparison, annotator.id)
            ordered, compared = 0.0, len(pairs(gold.tiers))
            if row and row["kind"] == "ranking":
                ordered, compared = agreement(from_row(Ranking, row), gold.tiers)
            right, total = right + ordered, total + compared
        return right / total if total else None

    def qualify(self, study: Study, annotator: Annotator) -> None:
        """Decide, once, when the annotator has ranked all gold of the qualification; not for simulated annotators."""
        if not self.undecided(study, annotator):
            return
        first, _ = gold_phases(Plan.of(study.plan), [gold.comparison for gold in self.all(study)])
        marks = ", ".join("?" * len(first))
        seen = (
            f"SELECT count(DISTINCT comparison) FROM standing_rankings WHERE annotator = ? AND comparison IN ({marks})"
        )
        if not first or self.number(seen, annotator.id, *first) < len(first):
            return
        score = self.score(annotator, first)
        self.decide(study, annotator, score is None or score >= Plan.of(study.plan).gold_pass, score, "")

    def undecided(self, study: Study, annotator: Annotator) -> bool:
        """Whether the annotator still has to pass the study's qualification; simulated annotators have none."""
        if annotator.simulated or not Plan.of(study.plan).qualification:
            return False
        decided = "SELECT 1 FROM qualifications WHERE study = ? AND annotator = ?"
        return self.row(decided, study.id, annotator.id) is None

    def decide(
        self, study: Study, annotator: Annotator, passed: bool, score: float | None = None, actor: str = ""
    ) -> None:
        """The annotator may rank in the study, or not. `actor`: the account of who decided, "" if their score did."""
        row = {
            "study": study.id, "annotator": annotator.id, "passed": int(passed), "agreement": score, "actor": actor,
            "at": self.store.clock(),
        }  # fmt: skip
        with self.store.write() as db:
            db.execute("DELETE FROM qualifications WHERE study = ? AND annotator = ?", [study.id, annotator.id])
            self.insert("qualifications", [row])
            detail = {"annotator": annotator.id, "passed": passed, "agreement": score}
            self.store.events.add(actor, "qualification", study.id, detail)
