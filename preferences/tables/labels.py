"""Rankings in bulk, as columns for the statistics."""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from preferences.contests import Answers
from preferences.labels import MOST, NONE, Asked, Labels
from preferences.rankings import ALL_BAD
from preferences.records import EQUAL, Annotator, Purpose, Study
from preferences.style import EFFECTS, features
from preferences.tables.table import Table

COUNTED = (
    "FROM current_rankings AS r JOIN comparisons AS c ON c.id = r.comparison "
    "JOIN annotators AS a ON a.id = r.annotator WHERE r.kind = 'ranking' AND (:study IS NULL OR c.study = :study) "
    "AND (:simulated OR NOT a.simulated OR a.id = :annotator) AND r.purpose IN (SELECT value FROM json_each(:purposes)) "
    # "All bad" is stored as a tier, but says no order.
    f"AND (r.flags = '{{}}' OR json_type(r.flags, '$.{ALL_BAD}') IS NULL) "
)

THEIRS = "AND r.comparison IN (SELECT comparison FROM rankings WHERE annotator = :annotator) "


class LabelColumns(Table):
    """Read only. Records of a million rankings would take minutes to make; columns take seconds."""

    def read(
        self,
        study: str | None = None,
        simulated: bool = False,
        purposes: Sequence[Purpose] = ("label",),
        ranked_by: Annotator | None = None,
    ) -> tuple[Labels, list[str]]:
        """Full rankings that count (see `Rankings.current`), oldest first, and the ids of their comparisons by number.

        Of one study (its id) or of all; those of simulated annotators only if `simulated`; with `ranked_by` of the
        comparisons that they ranked, their own rankings even if they are simulated. To be called in a snapshot: it
        reads comparisons first and rankings after them.
        """
        parameters: dict[str, object] = {
            "study": study, "simulated": int(simulated), "purposes": json.dumps(purposes),
            "annotator": ranked_by.id if ranked_by else None,
        }  # fmt: skip
        counted = COUNTED + (THEIRS if ranked_by else "")
        items = self._items(counted, parameters)
        numbers: dict[str, dict[str, int]] = {"comparison": {}, "prompt": {}, "annotator": {}}
        rows: list[tuple[int, int, int, int, float, int, bool]] = []
        tiers: list[list[int]] = []
        shown: list[list[int]] = []
        sql = (
            "SELECT r.comparison, c.prompt, r.annotator, r.active_ms, r.created, r.purpose = 'repeat', r.mode, r.tiers, "
            f"r.shown {counted} ORDER BY r.line"
        )
        for *keys, active_ms, created, repeat, mode, tiers_json, shown_json in self.store.db.execute(sql, parameters):
            comparison, prompt, annotator = (
                of_kind.setdefault(key, len(of_kind)) for of_kind, key in zip(numbers.values(), keys, strict=True)
            )
            order = json.loads(tiers_json)
            partial = mode == "best-worst" and len(order) < len(items[keys[0]])
            rows.append((comparison, prompt, annotator, active_ms, created, repeat, partial))
            place = {item: tier for tier, of_tier in enumerate(order) for item in of_tier}
            position = {item: at for at, item in enumerate(json.loads(shown_json))}
            tiers.append(padded([place[item] for item in items[keys[0]]]))
            shown.append(padded([position.get(item, NONE) for item in items[keys[0]]]))
        names = {account.id: account.name for account in self.store.annotators.all()}
        columns = [np.array(column) for column in zip(*rows, strict=True)] or [np.empty(0, np.int64)] * 7
        found = Labels(
            comparison=columns[0], prompt=columns[1], annotator=columns[2], active_ms=columns[3], created=columns[4],
            repeat=columns[5].astype(bool), partial=columns[6].astype(bool),
            tiers=np.array(tiers, np.int8).reshape(-1, MOST), shown=np.array(shown, np.int8).reshape(-1, MOST),
            names=[names[ident] for ident in numbers["annotator"]],
        )  # fmt: skip
        return found, list(numbers["comparison"])

    def characters(self, comparisons: Sequence[str]) -> NDArray[np.int64]:
        """How long the shown responses of each of those comparisons are together."""
        sql = (
            "SELECT cr.comparison, sum(length(t.text)) FROM comparison_responses AS cr "
            "JOIN responses AS r ON r.id = cr.response JOIN texts AS t ON t.id = r.text "
            "WHERE cr.comparison IN (SELECT value FROM json_each(?)) AND cr.response = cr.same_as GROUP BY cr.comparison"
        )
        found = dict(self.store.db.execute(sql, [json.dumps(list(comparisons))]).fetchall())
        return np.array([found[comparison] for comparison in comparisons], np.int64)

    def asked(self, study: Study, comparisons: Sequence[str]) -> Asked:
        """What was asked in those comparisons, and after them in the study's held-out ones whose answers are all equal."""
        sql = (
            "SELECT c.id, c.prompt, max(c.wanted, 1), c.created, p.split = 'heldout', c.origin = :equal "
            "FROM comparisons AS c JOIN prompts AS p ON p.id = c.prompt "
            "WHERE c.id IN (SELECT value FROM json_each(:ids)) "
            "OR (c.study = :study AND c.origin = :equal AND p.split = 'heldout')"
        )
        parameters = {"ids": json.dumps(list(comparisons)), "study": study.id, "equal": EQUAL}
        rows = {row[0]: row[1:] for row in self.store.db.execute(sql, parameters)}
        order = list(dict.fromkeys([*comparisons, *rows]))
        numbers: dict[str, int] = {}
        prompt = [numbers.setdefault(rows[ident][0], len(numbers)) for ident in order]
        wanted, created, heldout, equal = (np.array([rows[ident][i] for ident in order]) for i in range(1, 5))
        return Asked(
            order, np.array(prompt, int), len(numbers), wanted.astype(int), created.astype(float), heldout.astype(bool),
            equal.astype(bool),
        )  # fmt: skip

    def answers(self, comparisons: Sequence[str]) -> Answers:
        """The responses of those comparisons with their policies and the form of their texts, in the record's order."""
        sql = (
            "SELECT cr.comparison, cr.response, cr.same_as, p.name, t.text FROM comparison_responses AS cr "
            "JOIN responses AS r ON r.id = cr.response JOIN policies AS p ON p.id = r.policy "
            "JOIN texts AS t ON t.id = r.text "
            "WHERE cr.comparison IN (SELECT value FROM json_each(?)) ORDER BY cr.comparison, cr.position"
        )
        names: dict[str, int] = {}
        found: dict[str, list[tuple[str, str, int, tuple[float, ...]]]] = {}
        for comparison, response, shown, policy, text in self.store.db.execute(sql, [json.dumps(list(comparisons))]):
            row = (response, shown, names.setdefault(policy, len(names)), features(text))
            found.setdefault(comparison, []).append(row)
        size = (len(comparisons), max(map(len, found.values()), default=2))
        model, item = np.full(size, NONE), np.full(size, NONE)
        form = np.zeros((*size, len(EFFECTS)))
        for number, comparison in enumerate(comparisons):
            rows = found[comparison]
            items = {response: at for at, response in enumerate(row[0] for row in rows if row[0] == row[1])}
            item[number, : len(rows)] = [items[shown] for _, shown, _, _ in rows]
            model[number, : len(rows)] = [of for _, _, of, _ in rows]
            form[number, : len(rows)] = [of for _, _, _, of in rows]
        return Answers(model, item, form, list(names))

    def _items(self, counted: str, parameters: dict[str, object]) -> dict[str, list[str]]:
        """Comparison -> its shown items in the record's own order; of the comparisons that are ranked."""
        sql = (
            "SELECT comparison, response FROM comparison_responses "
            f"WHERE comparison IN (SELECT r.comparison {counted}) AND response = same_as ORDER BY comparison, position"
        )
        items: dict[str, list[str]] = {}
        for comparison, response in self.store.db.execute(sql, parameters):
            items.setdefault(comparison, []).append(response)
        return items


def padded(numbers: list[int]) -> list[int]:
    """The numbers and as many -1 as are missing."""
    return numbers + [NONE] * (MOST - len(numbers))
