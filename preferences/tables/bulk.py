"""Columns of many rows at once."""

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from preferences.tables.table import Table

PIECE = 4000  # rows that are read at once
BETWEEN = "\x1f"  # texts: a control character that hardly any text has

Name = tuple[str, type]  # a column and what it holds: str, int or float, never NULL
Column = Sequence[Any]


class Bulk(Table):
    """Reads each column as one value: SQLite makes it whole, without Python's lock, while other threads go on."""

    def columns(self, names: Sequence[Name], rest: str, *parameters: Any) -> list[Column]:
        """The columns of "SELECT names rest", in one order."""
        arrays = ", ".join(_whole(name, kind) for name, kind in names)
        count, *found = self.store.db.conn.execute(f"SELECT count(*), {arrays} {rest}", parameters).fetchone()
        if not count:
            return [[] for _ in names]
        values = iter(found)
        made = []
        for name, kind in names:
            column = _taken_apart(values, kind, count)
            if column is None:
                column = [value for (value,) in self.store.db.conn.execute(f"SELECT {name} {rest}", parameters)]
            made.append(column)
        return made

    def stored(self, table: str, names: Sequence[Name], idents: Sequence[str]) -> list[Column]:
        """The columns of the rows of those ids, in that order."""
        pieces = [self._piece(table, names, idents[at : at + PIECE]) for at in range(0, len(idents), PIECE)]
        if len(pieces) == 1:
            return pieces[0]
        return [[value for piece in pieces for value in piece[at]] for at in range(len(names))]

    def _piece(self, table: str, names: Sequence[Name], idents: Sequence[str]) -> list[Column]:
        """What was stored in about that order is read from the first to the last: to look up each takes twice as long."""
        names = [("id", str), *names]
        ends = dict(self.store.db.execute(f"SELECT id, rowid FROM {table} WHERE id IN (?, ?)", (idents[0], idents[-1])))
        first, last = ends[idents[0]], ends[idents[-1]]
        found: list[Column] = [[] for _ in names]
        if 0 <= last - first < 2 * len(idents):
            found = self.columns(names, f"FROM {table} WHERE rowid BETWEEN ? AND ?", first, last)
        place = {ident: at for at, ident in enumerate(found[0])}
        others = [ident for ident in idents if ident not in place]
        if others:
            looked_up = f"FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
            more = self.columns(names, looked_up, json.dumps(others))
            place.update((ident, at) for at, ident in enumerate(more[0], start=len(found[0])))
            found = [[*column, *rest] for column, rest in zip(found, more, strict=True)]
        order = [place[ident] for ident in idents]
        if order == list(range(len(found[0]))):
            return found[1:]
        return [_picked(column, order) for column in found[1:]]


def _whole(name: str, kind: type) -> str:
    """SQL for all of a column. A number that is no integer would lose digits as a text; mostly all are the same."""
    if kind is float:
        return f"min({name}), max({name})"
    return f"group_concat({name})" if kind is int else f"group_concat({name}, '{BETWEEN}')"


def _taken_apart(values: Any, kind: type, count: int) -> Column | None:
    """The column out of its value, or None if that does not say it."""
    value = next(values)
    if kind is float:
        return [value] * count if value == next(values) else None
    column: Column = json.loads(f"[{value}]") if kind is int else value.split(BETWEEN)
    return column if len(column) == count else None


def _picked(column: Column, order: Sequence[int]) -> Column:
    """The values at those places."""
    return itemgetter(*order)(column) if len(order) > 1 else [column[order[0]]]
