"""Columns of many rows, against the rows themselves."""

import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preferences.store import Store
from preferences.tables import bulk
from preferences.tables.bulk import Bulk
from tests.preferences.exchange.make import ODD


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a table of numbers."""
    made = Store(tmp_path_factory.mktemp("bulk") / "rankloop.db")
    with made.write() as db:
        db.execute("CREATE TABLE numbers (x REAL NOT NULL) STRICT")
    yield made
    made.close()


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(NUMBERS | st.sampled_from([0.7, 0.95, -0.0, 1 / 3, 0.1 + 0.2]), min_size=1, max_size=20))
def test_a_number_keeps_all_its_digits(numbers: Store, values: list[float]) -> None:
    with numbers.write() as db:
        db.execute("DELETE FROM numbers")
        db.conn.executemany("INSERT INTO numbers VALUES (?)", [(value,) for value in values])
    (found,) = Bulk(numbers).columns(["REAL(x)"], "FROM numbers WHERE rowid > ? ORDER BY rowid", 0)
    kept = [struct.pack("d", x) for (x,) in numbers.db.execute("SELECT x FROM numbers ORDER BY rowid")]
    assert [struct.pack("d", x) for x in found] == kept
    assert Bulk(numbers).columns(["REAL(x)", "x"], "FROM numbers WHERE rowid < ?", 0) == [[], []]


def test_whatever_is_asked_for_comes_in_the_order_in_which_it_was_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of storing, backwards, scattered, twice; in pieces, and none at all."""
    texts = {f"t{number}": f"{ODD}\0{number}" for number in random.Random(0).sample(range(1000), 100)}
    with store.write():
        Bulk(store).insert("texts", [{"id": ident, "text": text} for ident, text in texts.items()])
    idents = list(texts)
    for piece in (7, 4000):
        monkeypatch.setattr(bulk, "PIECE", piece)
        shuffled = [*idents[:3], *idents[50:], *idents[:40]]
        for wanted in (idents, idents[10:30], idents[::-1], idents[::9], shuffled, idents[:1]):
            assert [list(column) for column in Bulk(store).stored("texts", ["text", "id"], wanted)] == [
                [texts[ident] for ident in wanted],
                wanted,
            ]
    assert Bulk(store).stored("texts", ["text", "id"], []) == [[], []]
