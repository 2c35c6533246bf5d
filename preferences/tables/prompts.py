"""Prompts, with the split that is decided once, at import, for each near-duplicate cluster."""

from collections.abc import Iterable

from preferences.clusters import Clusters
from preferences.errors import UnknownName
from preferences.records import Message, Prompt, content_id
from preferences.splits import split_of
from preferences.tables.table import Table, from_row, to_row


def prompt_text(messages: list[Message]) -> str:
    """The words that decide whether two prompts are near-duplicates: all but the system prompt's."""
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


class Prompts(Table):
    """Conversations that wait for an answer."""

    def add(self, records: Iterable[dict[str, object]], heldout: float = 0.1) -> list[Prompt]:
        """Import {messages, source?, language?, tags?}; known prompts keep their row and split.

        `heldout`: share of clusters that is kept out of training. Returns the stored prompts in the given order.
        """
        ids = []
        with self.store.write():
            clusters = Clusters()
            for known in self.all():
                clusters.add(prompt_text(known.messages), known.cluster)
            splits = {known.cluster: known.split for known in self.all()}
            for record in records:
                messages: list[Message] = record["messages"]  # type: ignore[assignment]
                ident = content_id("prompt", messages)
                ids.append(ident)
                if self.row("SELECT 1 FROM prompts WHERE id = ?", ident):
                    continue
                cluster = clusters.add(prompt_text(messages), ident)
                split = splits.setdefault(cluster, split_of(cluster, heldout))
                fields = {name: record[name] for name in ("source", "language", "tags") if name in record}
                prompt = Prompt(ident, messages, cluster, split, **fields, created=self.store.clock())  # type: ignore[arg-type]
                self.insert("prompts", [to_row(prompt)])
        found = {prompt.id: prompt for prompt in self.all()}
        return [found[ident] for ident in ids]

    def get(self, ident: str) -> Prompt:
        """The prompt of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM prompts WHERE id = ?", ident)
        if row is None:
            raise UnknownName(f"There is no prompt {ident!r}.")
        return from_row(Prompt, row)

    def all(self, split: str | None = None, study: str | None = None) -> list[Prompt]:
        """Prompts in the order of import, of one split or one study (its id) if given."""
        sql = (
            "SELECT * FROM prompts WHERE (:split IS NULL OR split = :split) AND (:study IS NULL OR id IN "
            "(SELECT prompt FROM study_prompts WHERE study = :study)) ORDER BY created, rowid"
        )
        return [from_row(Prompt, row) for row in self.store.db.query(sql, {"split": split, "study": study})]
