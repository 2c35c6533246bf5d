"""How much there is."""

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

    def labels(self) -> list[tuple[str, str, int]]:
        """(study, annotator, how many of their rankings `Rankings.current` would give), of simulated annotators too."""
        rows = self.rows(
            "SELECT c.study, r.annotator, count(*) AS labels FROM current_rankings AS r "
            "JOIN comparisons AS c ON c.id = r.comparison "
            f"WHERE r.kind = 'ranking' AND r.purpose IN {LABELS} GROUP BY c.study, r.annotator"
        )
        return [(row["study"], row["annotator"], row["labels"]) for row in rows]
