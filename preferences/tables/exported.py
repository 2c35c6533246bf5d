"""What an export holds, in bulk; and counted, for its card."""

import json
from collections.abc import Sequence
from typing import Any

from preferences.records import LABELS
from preferences.tables.bulk import Bulk, Column, Name

RANKED = (
    "WITH ranked AS (SELECT r.id, r.comparison, r.annotator, r.guideline, c.prompt, p.split, p.source, p.language, "
    "a.simulated FROM current_rankings AS r JOIN comparisons AS c ON c.id = r.comparison "
    "JOIN prompts AS p ON p.id = c.prompt JOIN annotators AS a ON a.id = r.annotator "
    f"WHERE r.kind = 'ranking' AND r.purpose IN {LABELS} AND c.study = :study "
    "AND (:split IS NULL OR p.split = :split) "
    "AND (:simulated OR NOT a.simulated)) "
)

SAMPLING: list[Name] = [
    ("seed", int), ("sample_index", int), ("temperature", float), ("top_p", float), ("max_new_tokens", int),
    ("finish_reason", str), ("tokens", int), ("template_hash", str),
]  # fmt: skip


class Exported(Bulk):
    """Read only; each takes the study's id, a split (None for all) and whether simulated annotators count."""

    def counts(self, study: str, split: str | None, simulated: bool) -> list[dict[str, Any]]:
        """One row a split: prompts, comparisons, rankings, people and simulated annotators."""
        sql = RANKED + (
            "SELECT split, count(DISTINCT prompt) AS prompts, count(DISTINCT comparison) AS comparisons, "
            "count(*) AS rankings, count(DISTINCT CASE WHEN NOT simulated THEN annotator END) AS people, "
            "count(DISTINCT CASE WHEN simulated THEN annotator END) AS simulated FROM ranked "
            "GROUP BY split ORDER BY split DESC"
        )
        return self._rows(sql, study, split, simulated)

    def sampling(self, study: str, split: str | None, simulated: bool) -> list[dict[str, Any]]:
        """One row for each policy and sampling setting of the ranked responses, with how many there are."""
        sql = RANKED + (
            ", answers AS (SELECT DISTINCT cr.response FROM comparison_responses AS cr "
            "WHERE cr.comparison IN (SELECT comparison FROM ranked)) "
            "SELECT po.name AS policy, po.kind, po.base, po.quantization, parents.name AS parent, s.temperature, s.top_p, "
            "s.max_new_tokens, count(*) AS responses FROM answers JOIN responses AS s ON s.id = answers.response "
            "JOIN policies AS po ON po.id = s.policy LEFT JOIN policies AS parents ON parents.id = po.parent "
            "GROUP BY po.id, s.temperature, s.top_p, s.max_new_tokens ORDER BY po.created, po.name, s.temperature"
        )
        return self._rows(sql, study, split, simulated)

    def guidelines(self, study: str, split: str | None, simulated: bool) -> list[dict[str, Any]]:
        """One row for each version of the guidelines, None for none, with the rankings that were made under it."""
        sql = RANKED + (
            "SELECT g.version, count(*) AS rankings FROM ranked LEFT JOIN guidelines AS g ON g.id = ranked.guideline "
            "GROUP BY g.version ORDER BY g.version"
        )
        return self._rows(sql, study, split, simulated)

    def origins(self, study: str, split: str | None, simulated: bool, column: str) -> list[dict[str, Any]]:
        """One row for each `column` ("source" or "language") of the ranked prompts, with how many there are."""
        assert column in ("source", "language")
        sql = RANKED + (
            f"SELECT {column} AS origin, count(DISTINCT prompt) AS prompts FROM ranked GROUP BY {column} "
            "ORDER BY prompts DESC, origin"
        )
        return self._rows(sql, study, split, simulated)

    def prompts(self, idents: Sequence[str]) -> list[Column]:
        """split, source, language, tags and messages of the prompt of each of those comparisons."""
        sql = "FROM json_each(?) AS wanted CROSS JOIN comparisons AS c ON c.id = wanted.value"
        number, prompt = self.columns([("wanted.key", int), ("c.prompt", str)], sql, json.dumps(idents))
        assert number == list(range(len(idents))), "SQLite takes json_each in its order."
        return self.stored("prompts", texts("split", "source", "language", "tags", "messages"), prompt)

    def members(self, idents: Sequence[str]) -> list[Column]:
        """Of each response of those comparisons: the comparison's number among them, the response, the item that it is shown
        as, "" for itself. In the order of the comparisons, and the record's own.
        """
        names = [("wanted.key", int), *texts("cr.response", "iif(cr.same_as = cr.response, '', cr.same_as)")]
        sql = "FROM json_each(?) AS wanted CROSS JOIN comparison_responses AS cr ON cr.comparison = wanted.value"
        return self.columns(names, sql, json.dumps(idents))

    def responses(self, idents: Sequence[str]) -> list[Column]:
        """text, policy and sampling of those responses."""
        text, *rest = self.stored("responses", [*texts("text", "policy"), *SAMPLING], idents)
        return [*self.stored("texts", texts("text"), text), *rest]

    def rankings(self, idents: Sequence[str], simulated: bool) -> list[tuple[Any, ...]]:
        """(number of the comparison, annotator, tiers, shown, ...) of each current label and each verdict that nobody
        could rank it; by number, oldest first.
        """
        sql = (
            "SELECT wanted.key, r.annotator, r.tiers, r.shown, r.mode, r.strengths, r.flags, r.verdict, r.ratings, "
            "r.reason, r.rewrite, r.rewrite_of, r.active_ms, r.created FROM json_each(?) AS wanted "
            "CROSS JOIN current_rankings AS r ON r.comparison = wanted.value WHERE (r.kind = 'ranking' OR r.verdict != '') "
            f"AND r.purpose IN {LABELS} AND (? OR r.annotator NOT IN (SELECT id FROM annotators WHERE simulated)) "
            "ORDER BY wanted.key, r.line"
        )
        return list(self.store.db.execute(sql, [json.dumps(idents), int(simulated)]))

    def _rows(self, sql: str, study: str, split: str | None, simulated: bool) -> list[dict[str, Any]]:
        return list(self.store.db.query(sql, {"study": study, "split": split, "simulated": int(simulated)}))


def texts(*names: str) -> list[Name]:
    """Columns that hold texts."""
    return [(name, str) for name in names]
