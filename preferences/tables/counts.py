"""How much there is."""

from preferences.rankings import ALL_BAD
from preferences.records import LABELS
from preferences.tables.table import Table

COUNTED = {
    "studies": "studies",
    "prompts": "prompts",
    "policies": "policies",
    "responses": "responses",
    "comparisons": "comparisons",
    "rankings": "current_rankings WHERE kind = 'ranking'",
    "skips": "current_rankings WHERE kind = 'skip'",
    "annotators": "annotators",
}


class Counts(Table):
    """Read only."""

    def all(self) -> dict[str, int]:
        """How many of each noun are stored; rankings and skips are those that nothing supersedes."""
        return {name: self.number(f"SELECT count(*) FROM {source}") for name, source in COUNTED.items()}

    def unranked(self, study: str | None, simulated: bool) -> dict[str, int]:
        """{"all_bad", "cannot_rank", "skipped"}: how many answers that count say no order; of a study (its id) or of all."""
        sql = (
            "SELECT coalesce(sum(r.kind = 'ranking'), 0) AS all_bad, coalesce(sum(r.verdict != ''), 0) AS cannot_rank, "
            "coalesce(sum(r.kind = 'skip' AND r.verdict = ''), 0) AS skipped FROM current_rankings AS r "
            "JOIN comparisons AS c ON c.id = r.comparison JOIN annotators AS a ON a.id = r.annotator "
            f"WHERE r.purpose = 'label' AND (r.kind = 'skip' OR json_type(r.flags, '$.{ALL_BAD}') IS NOT NULL) "
            "AND (? IS NULL OR c.study = ?) AND (? OR NOT a.simulated)"
        )
        return self.rows(sql, study, study, int(simulated))[0]

    def labels(self) -> list[tuple[str, str, int]]:
        """(study, annotator, how many of their rankings `Rankings.current` would give), of simulated annotators too."""
        rows = self.rows(
            "SELECT c.study, r.annotator, count(*) AS labels FROM current_rankings AS r "
            "JOIN comparisons AS c ON c.id = r.comparison "
            f"WHERE r.kind = 'ranking' AND r.purpose IN {LABELS} GROUP BY c.study, r.annotator"
        )
        return [(row["study"], row["annotator"], row["labels"]) for row in rows]
