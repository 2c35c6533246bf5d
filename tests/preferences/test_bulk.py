"""Columns of many rows, against the rows themselves."""

import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.store import Store
from preferences.tables import bulk
from preferences.tables.bulk import BETWEEN, Bulk, Name
from tests.preferences.exchange.make import ODD


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a table of numbers."""
    made = Store(tmp_path_factory.mktemp("bulk") / "rankloop.db")
    with made.write() as db:
        db.execute("CREATE TABLE numbers (x REAL NOT NULL) STRICT")
    yield made
    made.close()


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20) | st.floats(allow_nan=False).map(lambda x: [x, x]))
def test_a_number_keeps_all_its_digits(numbers: Store, values: list[float]) -> None:
    with numbers.write() as db:
        db.execute("DELETE FROM numbers")
        db.conn.executemany("INSERT INTO numbers VALUES (?)", [(value,) for value in values])
    (found,) = Bulk(numbers).columns([("x", float)], "FROM numbers WHERE rowid > ? ORDER BY rowid", 0)
    kept = [struct.pack("d", x) for (x,) in numbers.db.execute("SELECT x FROM numbers ORDER BY rowid")]
    assert [struct.pack("d", x) for x in found] == kept
    assert Bulk(numbers).columns([("x", float), ("rowid", int)], "FROM numbers WHERE rowid < ?", 0) == [[], []]


@pytest.mark.parametrize("odd", ["", BETWEEN])
def test_whatever_is_asked_for_comes_in_the_order_in_which_it_was_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    """In the order of storing, backwards, scattered, twice; in pieces; none at all; also with what stands between texts."""
    texts = {f"t{number}": f"{ODD}\0{number}" for number in random.Random(0).sample(range(1000), 100)}
    texts |= {"empty": "", "more": odd}
    with store.write():
        Bulk(store).insert("texts", [{"id": ident, "text": text} for ident, text in texts.items()])
    idents = list(texts)
    names: list[Name] = [("text", str), ("id", str), ("length(id)", int)]
    for piece in (7, 4000):
        monkeypatch.setattr(bulk, "PIECE", piece)
        shuffled = [*idents[:3], *idents[50:], *idents[:40]]
        for wanted in (idents, idents[10:30], idents[::-1], idents[::9], shuffled, idents[:1], idents[-2:-1]):
            found = Bulk(store).stored("texts", names, wanted)
            assert [list(column) for column in found] == [
                [texts[ident] for ident in wanted],
                wanted,
                [len(ident) for ident in wanted],
            ]
    assert Bulk(store).stored("texts", names, []) == [[], [], []]
