"""Columns of many rows at once."""

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from preferences.tables.table import Table

PIECE = 4000  # rows that are read at once
REAL = "REAL("
DIGITS = 20  # with its sign, its point and the zeros in front

Column = Sequence[Any]


class Bulk(Table):
    """Reads columns, each as one JSON array: SQLite makes it whole, without Python's lock, while other threads go on."""

    def columns(self, names: Sequence[str], rest: str, *parameters: Any) -> list[Column]:
        """The columns of "SELECT names rest", in one order; those of finite REAL numbers are named REAL(...)."""
        arrays = ", ".join(_array(name) for name in names)
        row = self.store.db.conn.execute(f"SELECT {arrays} {rest}", parameters).fetchone()
        return [
            self._column(name, rest, parameters) if name.startswith(REAL) and _is_long(array) else json.loads(array)
            for name, array in zip(names, row, strict=True)
        ]

    def _column(self, name: str, rest: str, parameters: Sequence[Any]) -> Column:
        """Row by row: numbers of many digits come out of SQLite's texts for them off by the last bit, now and then."""
        return [value for (value,) in self.store.db.conn.execute(f"SELECT {name[len(REAL) : -1]} {rest}", parameters)]

    def stored(self, table: str, names: Sequence[str], idents: Sequence[str]) -> list[Column]:
        """The columns of the rows of those ids, in that order."""
        pieces = [self._piece(table, names, idents[at : at + PIECE]) for at in range(0, len(idents), PIECE)]
        if len(pieces) == 1:
            return pieces[0]
        return [[value for piece in pieces for value in piece[at]] for at in range(len(names))]

    def _piece(self, table: str, names: Sequence[str], idents: Sequence[str]) -> list[Column]:
        """What was stored in about that order is read from the first to the last: to look up each takes twice as long."""
        ends = dict(self.store.db.execute(f"SELECT id, rowid FROM {table} WHERE id IN (?, ?)", (idents[0], idents[-1])))
        first, last = ends[idents[0]], ends[idents[-1]]
        found: list[Column] = [[] for _ in range(len(names) + 1)]
        if 0 <= last - first < 2 * len(idents):
            found = self.columns(["id", *names], f"FROM {table} WHERE rowid BETWEEN ? AND ?", first, last)
        place = {ident: at for at, ident in enumerate(found[0])}
        others = [ident for ident in idents if ident not in place]
        if others:
            looked_up = f"FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
            more = self.columns(["id", *names], looked_up, json.dumps(others))
            place.update((ident, at) for at, ident in enumerate(more[0], start=len(found[0])))
            found = [[*column, *rest] for column, rest in zip(found, more, strict=True)]
        order = [place[ident] for ident in idents]
        if order == list(range(len(found[0]))):
            return found[1:]
        return [_picked(column, order) for column in found[1:]]


def _array(name: str) -> str:
    """SQL for a JSON array of the column. JSON alone would round a REAL to 15 digits, unlike `quote`."""
    if name.startswith(REAL):
        return f"'[' || coalesce(group_concat(quote({name[len(REAL) : -1]})), '') || ']'"
    return f"json_group_array({name})"


def _is_long(numbers: str) -> bool:
    """Whether a number in the array has more digits than can be relied on, or an exponent."""
    return "e" in numbers or max(map(len, numbers.split(","))) > DIGITS


def _picked(column: Column, order: Sequence[int]) -> Column:
    """The values at those places."""
    return itemgetter(*order)(column) if len(order) > 1 else [column[order[0]]]
