"""Comparisons: the responses of one prompt that are ranked together."""

from collections.abc import Iterable

from preferences.errors import UnknownName
from preferences.records import Comparison, Response, Study, content_id
from preferences.tables.table import Table, to_row


class Comparisons(Table):
    """Equal texts are one item that is shown once and credited to every policy that said it."""

    def add(
        self, study: Study, prompt: str, responses: Iterable[Response], origin: str = "sampled", priority: float = 0.0
    ) -> Comparison | None:
        """Queue a comparison; None (and nothing stored) if fewer than two texts differ; again, it changes nothing."""
        responses = list(responses)
        assert all(response.prompt == prompt for response in responses), "All responses must answer the prompt."
        first: dict[str, str] = {}
        same = {response.id: first.setdefault(response.text, response.id) for response in responses}
        items = list(first.values())
        if len(items) < 2:
            return None
        ident = content_id("comparison", study.id, prompt, sorted(same))
        made = Comparison(ident, study.id, prompt, items, same, origin, priority, self.store.clock())
        with self.store.write():
            row = to_row(made)
            del row["items"], row["same"]
            if self.insert("comparisons", [row], ignore=True):
                rows = [
                    {"comparison": ident, "position": position, "response": response, "same_as": shown}
                    for position, (response, shown) in enumerate(same.items())
                ]
                self.insert("comparison_responses", rows)
        return self.get(ident)

    def get(self, ident: str) -> Comparison:
        """The comparison of that id. Raises UnknownName."""
        found = self._select("WHERE c.id = ?", ident)
        if not found:
            raise UnknownName(f"There is no comparison {ident!r}.")
        return found[0]

    def all(self, study: str | None = None, split: str | None = None) -> list[Comparison]:
        """Comparisons, oldest first, of one study (its id) or one split if given."""
        where = "WHERE (? IS NULL OR c.study = ?) AND (? IS NULL OR p.split = ?)"
        return self._select(where, study, study, split, split)

    def _select(self, where: str, *parameters: object) -> list[Comparison]:
        rows = self.rows(
            "SELECT c.*, cr.response, cr.same_as FROM comparisons AS c JOIN prompts AS p ON p.id = c.prompt "
            f"JOIN comparison_responses AS cr ON cr.comparison = c.id {where} ORDER BY c.created, c.rowid, cr.position",
            *parameters,
        )
        found: dict[str, Comparison] = {}
        for row in rows:
            response, shown = row.pop("response"), row.pop("same_as")
            comparison = found.setdefault(row["id"], Comparison(**row, items=[], same={}))
            comparison.same[response] = shown
            if response == shown:
                comparison.items.append(response)
        return list(found.values())
