"""The tokens with which workers on other hosts come in; kept as hashes alone."""

from preferences.errors import NameTaken, UnknownName
from preferences.jobs import WorkerToken
from preferences.records import random_id
from preferences.tables.table import Table, from_row

NOTED_SECONDS = 60.0  # between two notes of a token's use


class WorkerTokens(Table):
    """A revoked one opens nothing and keeps its name, so that the audit log stays clear."""

    def add(self, name: str, token_hash: str, actor: str = "") -> WorkerToken:
        """A new token. Raises NameTaken."""
        made = WorkerToken(random_id(), name, self.store.clock())
        with self.store.write():
            if self.row("SELECT 1 FROM worker_tokens WHERE name = ?", name):
                raise NameTaken(f"There is or was a worker token named {name!r}; choose another name.")
            row = {"id": made.id, "name": name, "token_hash": token_hash, "created": made.created}
            self.insert("worker_tokens", [row])
            self.store.events.add(actor, "worker token added", made.id, {"name": name})
        return made

    def revoke(self, name: str, actor: str = "") -> WorkerToken:
        """From its next request on the worker is refused; again, it changes nothing. Raises UnknownName."""
        with self.store.write() as db:
            found = next((token for token in self.all() if token.name == name), None)
            if found is None:
                names = ", ".join(token.name for token in self.all()) or "none"
                raise UnknownName(f"There is no worker token {name!r} (there are: {names}).")
            if found.revoked is None:
                db.execute("UPDATE worker_tokens SET revoked = ? WHERE id = ?", [self.store.clock(), found.id])
                self.store.events.add(actor, "worker token revoked", found.id, {"name": name})
        return next(token for token in self.all() if token.id == found.id)

    def of_hash(self, token_hash: str) -> WorkerToken | None:
        """The token of that hash, or None if it is unknown or revoked."""
        row = self.row("SELECT * FROM worker_tokens WHERE token_hash = ? AND revoked IS NULL", token_hash)
        return from_row(WorkerToken, row) if row else None

    def note_use(self, token: WorkerToken) -> None:
        """It was used just now; noted once a minute."""
        now = self.store.clock()
        if token.used is None or abs(now - token.used) >= NOTED_SECONDS:
            with self.store.write(durable=False) as db:
                db.execute("UPDATE worker_tokens SET used = ? WHERE id = ?", [now, token.id])

    def all(self) -> list[WorkerToken]:
        """Every token, also the revoked ones, oldest first."""
        return [from_row(WorkerToken, row) for row in self.rows("SELECT * FROM worker_tokens ORDER BY created, rowid")]
