"""Prompts, with the split that is decided once, at import, for each near-duplicate cluster."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from preferences.clusters import Links
from preferences.errors import UnknownName
from preferences.records import Message, Prompt, Split, Study, content_id
from preferences.splits import split_of
from preferences.tables.table import Table, from_row, to_row
from preferences.tables.twins import Twins

if TYPE_CHECKING:
    from preferences.store import Store


def messages_of(record: dict[str, Any]) -> list[Message]:
    """The record's messages with nothing but role and content, so that the id hashes just these."""
    return [{"role": message["role"], "content": message["content"]} for message in record["messages"]]


class Prompts(Table):
    """Conversations that wait for an answer."""

    def add(self, records: Iterable[dict[str, Any]], heldout: float = 0.1) -> list[Prompt]:
        """Import {messages, split?, source?, language?, tags?}; known prompts keep their row and split.

        `heldout`: share of clusters that is kept out of training. Returns the stored prompts in the given order.
        """
        with self.store.write(), self.intake(heldout) as intake:
            idents = intake.add(records)
        stored = self.get_many(set(idents))
        return [stored[ident] for ident in idents]

    @contextmanager
    def intake(self, heldout: float) -> Iterator["Intake"]:
        """Inside a writing transaction: prompts in any number of parts, whose splits are settled when the block ends."""
        intake = Intake(self.store, heldout)
        intake.twins.open()
        try:
            yield intake
            intake.settle()
        finally:
            intake.twins.close()

    def get(self, ident: str) -> Prompt:
        """The prompt of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM prompts WHERE id = ?", ident)
        if row is None:
            raise UnknownName(f"There is no prompt {ident!r}.")
        return from_row(Prompt, row)

    def of_comparison(self, comparison: str) -> Prompt:
        """The prompt that the comparison asks about. Raises UnknownName."""
        sql = "SELECT prompts.* FROM comparisons JOIN prompts ON prompts.id = prompt WHERE comparisons.id = ?"
        row = self.row(sql, comparison)
        if row is None:
            raise UnknownName(f"There is no comparison {comparison!r}.")
        return from_row(Prompt, row)

    def get_many(self, idents: Iterable[str]) -> dict[str, Prompt]:
        """Prompts by id."""
        rows = self.rows("SELECT * FROM prompts WHERE id IN (SELECT value FROM json_each(?))", json.dumps(list(idents)))
        return {row["id"]: from_row(Prompt, row) for row in rows}

    def of_study(self, study: Study, idents: Iterable[str]) -> set[str]:
        """Which of those ids are the study's prompts'."""
        sql = "SELECT prompt FROM study_prompts WHERE study = ? AND prompt IN (SELECT value FROM json_each(?))"
        return {row["prompt"] for row in self.rows(sql, study.id, json.dumps(list(idents)))}

    def all(self, split: str | None = None, study: str | None = None) -> list[Prompt]:
        """Prompts in the order of import, of one split or one study (its id) if given."""
        sql = (
            "SELECT * FROM prompts WHERE (:split IS NULL OR split = :split) AND (:study IS NULL OR id IN "
            "(SELECT prompt FROM study_prompts WHERE study = :study)) ORDER BY created, rowid"
        )
        return [from_row(Prompt, row) for row in self.store.db.query(sql, {"split": split, "study": study})]


class Intake(Table):
    """New prompts of one import. A record's `split` is kept, unless a twin is on the other side already."""

    def __init__(self, store: "Store", heldout: float) -> None:
        super().__init__(store)
        self.heldout = heldout
        self.links = Links()
        self.twins = Twins(store)

    def add(self, records: Iterable[dict[str, Any]]) -> list[str]:
        """Store the prompts that are new; the ids of all. Clusters and splits are settled later."""
        given = [(content_id("prompt", messages_of(record)), record) for record in records]
        known = set(self.store.prompts.get_many({ident for ident, _ in given}))
        for ident, record in given:
            if ident in known:
                continue
            known.add(ident)
            messages = messages_of(record)
            for other, new, alike, cluster in self.twins.of(messages):
                if new:
                    self.links.join(ident, other)
                else:
                    self.links.attach(ident, alike, cluster)
            fields = {name: record[name] for name in ("source", "language", "tags") if name in record}
            split: Split = record.get("split") or split_of(ident, self.heldout)
            made = Prompt(ident, messages, ident, split, **fields, created=self.store.clock())
            self.insert("prompts", [to_row(made)])
            self.twins.add(ident, messages)
        return [ident for ident, _ in given]

    def settle(self) -> None:
        """Give linked prompts the cluster and split of a known cluster, or of the least of their ids."""
        with self.store.write() as db:
            # A cluster bears the id of one of its prompts, and that one's split is the cluster's.
            sql = "UPDATE prompts SET cluster = ?1, split = (SELECT split FROM prompts WHERE id = ?1) WHERE id = ?2"
            clusters = self.links.clusters()
            db.conn.executemany(sql, [(cluster, ident) for ident, cluster in clusters.items()])
            self.store.counters.prompts_moved(clusters)
