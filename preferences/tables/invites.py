"""Invitations: a link, good once and for a time, at which somebody sets the password of a new account."""

from collections.abc import Sequence

from preferences.errors import NameTaken
from preferences.records import Annotator, Role
from preferences.tables.table import Table


class Invites(Table):
    """An account that waits for its password cannot log in."""

    def add(
        self, name: str, role: Role, token_hash: str, seconds: float, languages: Sequence[str] = (), actor: str = ""
    ) -> Annotator:
        """An account and its invitation; an earlier one that was not used ends. Raises NameTaken if it has a password."""
        with self.store.write() as db:
            known = self.store.annotators.find(name)
            if known and not self._waits(known):
                raise NameTaken(f"There is an account named {name!r} already; choose another name.")
            account = known or self.store.annotators.add(name, role, "", actor=actor)
            db.execute(
                "UPDATE annotators SET role = ?, active = 1 WHERE id = ?",
                [role, account.id],
            )
            self.store.annotators.set_languages(account, languages, actor)
            self._give(account, token_hash, seconds, actor)
            self.store.events.add(actor, "invite", account.id, {"role": role})
        return self.store.annotators.get(account.id)

    def reset(self, account: Annotator, token_hash: str, seconds: float, actor: str = "") -> None:
        """Take the account's password and end its sessions; at the new link its owner sets another password.

        An invitation cannot take such an account over.
        """
        with self.store.write():
            self.store.annotators.set_password(account, "", actor)
            self._give(account, token_hash, seconds, actor)

    def _give(self, account: Annotator, token_hash: str, seconds: float, actor: str) -> None:
        now = self.store.clock()
        with self.store.write() as db:
            db.execute("UPDATE invites SET expires = ? WHERE annotator = ? AND used IS NULL", [now, account.id])
            row = {
                "token_hash": token_hash, "annotator": account.id, "created": now, "expires": now + seconds,
                "actor": actor,
            }  # fmt: skip
            self.insert("invites", [row])

    def find(self, token_hash: str) -> Annotator | None:
        """Whom the link invites, or None if it is unknown, used, over, or the account was removed."""
        row = self.row(
            "SELECT annotator FROM invites WHERE token_hash = ? AND used IS NULL AND expires > ?",
            token_hash,
            self.store.clock(),
        )
        account = self.store.annotators.get(row["annotator"]) if row else None
        return account if account and account.active else None

    def use(self, token_hash: str, password_hash: str) -> Annotator | None:
        """Set the password and end the link; whose it is, or None if somebody was faster or it is over."""
        with self.store.write() as db:
            account = self.find(token_hash)
            if account is None:
                return None
            db.execute("UPDATE invites SET used = ? WHERE token_hash = ?", [self.store.clock(), token_hash])
            self.store.annotators.set_password(account, password_hash, account.id)
            self.store.events.add(account.id, "joined", account.id, {})
        return self.store.annotators.get(account.id)

    def _waits(self, account: Annotator) -> bool:
        """Whether the account was made by an invitation and never had a password; imported annotators have neither."""
        if account.password_hash or not self.row("SELECT 1 FROM invites WHERE annotator = ?", account.id):
            return False
        return not self.row("SELECT 1 FROM events WHERE subject = ? AND kind = 'password taken'", account.id)
