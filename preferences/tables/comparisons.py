"""Comparisons: the responses of one prompt that are ranked together."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields

from preferences.errors import UnknownName
from preferences.plan import Plan, labels_wanted
from preferences.records import EQUAL, LABELS, Comparison, Response, Study, content_id
from preferences.tables.table import Table, to_row

COLUMNS = [field.name for field in fields(Comparison) if field.name not in ("items", "same")]


class Comparisons(Table):
    """Equal texts are one item that is shown once and credited to every policy that said it, unless `same` differs."""

    def add(
        self, study: Study, prompt: str, responses: Iterable[Response], origin: str = "sampled", priority: float = 0.0,
        same: dict[str, str] | None = None, record: str | None = None, asked_by: str | None = None,
    ) -> Comparison | None:  # fmt: skip
        """Queue a comparison; None (and nothing stored) if fewer than two items differ; again, it changes nothing.

        With origin EQUAL one item is stored too, as a tie of all who said it that nobody is asked about.

        `same`: response -> the shown item that stands for it, by default the first of equal text. `record`: an outside
        id, which tells two comparisons of the same responses apart.
        """
        responses = list(responses)
        assert all(response.prompt == prompt for response in responses), "All responses must answer the prompt."
        if same is None:
            first: dict[str, str] = {}
            same = {response.id: first.setdefault(response.text, response.id) for response in responses}
        items = list(dict.fromkeys(same.values()))
        if len(items) < 2 and origin != EQUAL:
            return None
        ident = content_id("comparison", study.id, prompt, sorted(same), *([record] if record else []))
        made = Comparison(ident, study.id, prompt, items, same, origin, priority, self.store.clock(), asked_by)
        with self.store.write():
            row = to_row(made)
            del row["items"], row["same"]
            row["wanted"] = self._wanted(study, made)
            if self.insert("comparisons", [row], ignore=True):
                rows = [
                    {"comparison": ident, "position": position, "response": response, "same_as": shown}
                    for position, (response, shown) in enumerate(same.items())
                ]
                self.insert("comparison_responses", rows)
        return self.get(ident)

    def find(self, ident: str) -> Comparison | None:
        """The comparison of that id, or None."""
        return next(iter(self._select("WHERE c.id = ?", ident)), None)

    def get(self, ident: str) -> Comparison:
        """The comparison of that id. Raises UnknownName."""
        found = self.find(ident)
        if found is None:
            raise UnknownName(f"There is no comparison {ident!r}.")
        return found

    def count(self, study: Study) -> int:
        """How many comparisons the study has."""
        return self.number("SELECT count(*) FROM comparisons WHERE study = ?", study.id)

    def all(self, study: str | None = None, split: str | None = None) -> list[Comparison]:
        """Comparisons, oldest first, of one study (its id) or one split if given."""
        where = "JOIN prompts AS p ON p.id = c.prompt WHERE (? IS NULL OR c.study = ?) AND (? IS NULL OR p.split = ?)"
        return self._select(where, study, study, split, split)

    def get_many(self, idents: Sequence[str]) -> list[Comparison]:
        """The comparisons of those ids, in that order."""
        found = self._select("WHERE c.id IN (SELECT value FROM json_each(?))", json.dumps(idents))
        by_id = {comparison.id: comparison for comparison in found}
        return [by_id[ident] for ident in idents]

    def policies_of(self, idents: Iterable[str]) -> dict[str, list[str]]:
        """Comparison -> the names of the policies of all its responses, one for each."""
        sql = (
            "SELECT cr.comparison, p.name FROM comparison_responses AS cr JOIN responses AS r ON r.id = cr.response "
            "JOIN policies AS p ON p.id = r.policy WHERE cr.comparison IN (SELECT value FROM json_each(?))"
        )
        found: dict[str, list[str]] = {}
        for comparison, name in self.store.db.execute(sql, [json.dumps(list(idents))]):
            found.setdefault(comparison, []).append(name)
        return found

    def ranked_ids(self, study: Study, split: str | None, simulated: bool, verdicts: bool = False) -> list[str]:
        """Ids of the comparisons that have a current ranking (by a person, unless `simulated`), oldest first.

        `verdicts`: or of which somebody has said that nobody could rank them.
        """
        sql = (
            "SELECT c.id FROM comparisons AS c WHERE c.study = :study AND (c.labels > 0 "
            "OR (:simulated AND c.labels_simulated > 0) OR (:verdicts AND EXISTS (SELECT 1 FROM current_rankings AS r "
            "JOIN annotators AS a ON a.id = r.annotator WHERE r.comparison = c.id AND r.verdict != '' "
            f"AND r.purpose IN {LABELS} AND (:simulated OR NOT a.simulated)))) "
            "AND (:split IS NULL OR (SELECT split FROM prompts WHERE id = c.prompt) = :split) "
            "ORDER BY c.created, c.rowid"
        )
        parameters = {"study": study.id, "split": split, "simulated": int(simulated), "verdicts": int(verdicts)}
        return [ident for (ident,) in self.store.db.execute(sql, parameters)]

    def _wanted(self, study: Study, comparison: Comparison) -> int:
        """How many people the study, as it is now, wants to rank it."""
        if comparison.origin == EQUAL:
            return 0
        row = self.row(
            "SELECT s.plan, p.split FROM studies AS s, prompts AS p WHERE s.id = ? AND p.id = ?",
            study.id,
            comparison.prompt,
        )
        assert row is not None
        own = comparison.asked_by is not None
        return labels_wanted(Plan.of(json.loads(row["plan"])), comparison.id, row["split"], own)

    def _select(self, where: str, *parameters: object) -> list[Comparison]:
        rows = self.rows(
            "SELECT c.*, cr.response, cr.same_as FROM comparisons AS c "
            f"JOIN comparison_responses AS cr ON cr.comparison = c.id {where} ORDER BY c.created, c.rowid, cr.position",
            *parameters,
        )
        found: dict[str, Comparison] = {}
        for row in rows:
            response, shown = row["response"], row["same_as"]
            if row["id"] not in found:
                found[row["id"]] = Comparison(**{name: row[name] for name in COLUMNS}, items=[], same={})
            comparison = found[row["id"]]
            comparison.same[response] = shown
            if response == shown:
                comparison.items.append(response)
        return list(found.values())
