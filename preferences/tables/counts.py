"""How much there is."""

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
