"""Columns of rankings out of a database: what counts, and in which order of items."""

from dataclasses import replace

import numpy as np

from preferences import summary
from preferences.labels import NONE, blocks
from preferences.rankings import ALL_BAD
from preferences.records import Ranking, Study, random_id
from preferences.store import Store
from tests.preferences.make import add_annotator, add_comparison


def test_only_labels_that_count_and_say_an_order(store: Store, study: Study) -> None:
    """Of a simulated annotator, "all bad", repeats and adjudications: only when asked for, or never."""
    made = add_comparison(store, study)
    a, b, c, d = made.items
    people = {
        name: add_annotator(store, name, simulated=name == "robot")
        for name in ("ann", "bob", "cem", "dan", "eva", "robot")
    }
    tiers = [[c], [a, d], [b]]
    for name in ("ann", "robot"):
        store.rankings.add_imported(people[name], made, tiers, order=[d, c, b, a])
    base = Ranking("", made.id, "", "ranking", tiers, made.items, "", created=1.0)
    rows = {
        "bob": replace(base, mode="best-worst"), "cem": replace(base, flags={ALL_BAD: True}, tiers=[made.items]),
        "dan": replace(base, purpose="adjudication"), "eva": replace(base, flags={a: ["harmful"]}),
    }  # fmt: skip
    for name, row in rows.items():
        store.rankings._insert(replace(row, id=random_id(), nonce=random_id(), annotator=people[name].id))
    labels, comparisons = store.labels.read()
    assert [labels.names[number] for number in labels.annotator] == ["ann", "bob", "eva"]
    assert labels.partial.tolist() == [False, True, False]
    assert comparisons == [made.id]
    assert labels.tiers[0].tolist() == [1, 2, 0, 1] + [NONE] * 5
    assert labels.shown[0].tolist() == [3, 2, 1, 0] + [NONE] * 5
    assert set(store.labels.read(study.id, simulated=True)[0].names) == {"ann", "bob", "eva", "robot"}
    assert set(store.labels.read(purposes=("label", "adjudication"))[0].names) == {"ann", "bob", "dan", "eva"}
    assert len(store.labels.read("another study")[0]) == 0
    assert summary.agreement(store)["pairwise_agreement"]["value"] == 1
    assert summary.agreement(store, simulated=True)["pairwise_agreement"]["n"] == 6 * 5


def test_an_annotator_counts_once(store: Store, study: Study) -> None:
    """Two rankings that both stand (which the queue does not give): the later one counts."""
    made = add_comparison(store, study, texts=("a", "b"))
    first, second = made.items
    ann, bob = add_annotator(store), add_annotator(store, "bob")
    for person, tiers in ((ann, [[first], [second]]), (ann, [[second], [first]]), (bob, [[second], [first]])):
        row = Ranking(random_id(), made.id, person.id, "ranking", tiers, made.items, random_id(), created=1.0)
        store.rankings._insert(row)
    (block,) = blocks(store.labels.read()[0])
    assert np.sort(block.signs.ravel()).tolist() == [-1, -1]
