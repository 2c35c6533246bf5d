"""Annotators and their sessions. Only hashes of passwords and session tokens are kept."""

import json
import math
from collections.abc import Sequence
from typing import Any

from preferences.errors import NameTaken, UnknownName
from preferences.records import ROLES, Annotator, ConsentText, Role, random_id
from preferences.tables.table import Table, from_row, to_row

MOST_SESSIONS = 50  # of one account


class Annotators(Table):
    """Everyone who may log in."""

    def add(self, name: str, role: Role, password_hash: str, simulated: bool = False, actor: str = "") -> Annotator:
        """A new account. Raises NameTaken."""
        assert role in ROLES, f"A role is one of {ROLES}, not {role!r}."
        made = Annotator(random_id(), name, role, password_hash, simulated, created=self.store.clock())
        with self.store.write():
            if self.find(name):
                raise NameTaken(f"There is an account named {name!r} already; choose another name.")
            self.insert("annotators", [to_row(made)])
            self.store.events.add(actor, "account created", made.id, {"role": role, "simulated": simulated})
        return made

    def find(self, name: str) -> Annotator | None:
        """The account of that name (case does not matter) or id, or None."""
        row = self.row("SELECT * FROM annotators WHERE name = ? OR id = ?", name, name)
        return from_row(Annotator, row) if row else None

    def get(self, name: str) -> Annotator:
        """The account of that name or id. Raises UnknownName."""
        found = self.find(name)
        if found is None:
            raise UnknownName(f"There is no account {name!r}; add it with `labeler people add`.")
        return found

    def all(self) -> list[Annotator]:
        """Every account, by name."""
        return [from_row(Annotator, row) for row in self.rows("SELECT * FROM annotators ORDER BY name")]

    def set_password(self, annotator: Annotator, password_hash: str, actor: str = "") -> None:
        """Replace the password ("": by none) and end every session of the account."""
        with self.store.write() as db:
            db.execute("UPDATE annotators SET password_hash = ? WHERE id = ?", [password_hash, annotator.id])
            db.execute("DELETE FROM sessions WHERE annotator = ?", [annotator.id])
            self.store.events.add(actor, "password set" if password_hash else "password taken", annotator.id, {})

    def set_active(self, annotator: Annotator, active: bool, actor: str = "") -> None:
        """Let the account log in, or not (which ends its sessions)."""
        with self.store.write() as db:
            db.execute("UPDATE annotators SET active = ? WHERE id = ?", [int(active), annotator.id])
            if not active:
                db.execute("DELETE FROM sessions WHERE annotator = ?", [annotator.id])
            self.store.events.add(actor, "account opened" if active else "account closed", annotator.id, {})

    def change_settings(self, annotator: Annotator, changes: dict[str, Any]) -> Annotator:
        """Change some of the account's own settings and keep the others (RFC 7396); the account as it is then."""
        with self.store.write() as db:
            sql = "UPDATE annotators SET settings = json_patch(settings, ?) WHERE id = ?"
            db.execute(sql, [json.dumps(changes), annotator.id])
        return self.get(annotator.id)

    def give_consent(self, annotator: Annotator, text: ConsentText) -> float:
        """Record that the annotator agreed to that version now; the time of the first agreement to it."""
        row = {"annotator": annotator.id, "consent": text.id, "at": self.store.clock()}
        with self.store.write():
            if self.insert("consents", [row], ignore=True):
                self.store.events.add(annotator.id, "consent", text.study, {"version": text.version})
            at = self.consented(annotator, text)
        assert at is not None
        return at

    def consented(self, annotator: Annotator, text: ConsentText) -> float | None:
        """When the annotator agreed to that version, or None."""
        row = self.row("SELECT at FROM consents WHERE annotator = ? AND consent = ?", annotator.id, text.id)
        return row["at"] if row else None

    def set_languages(self, annotator: Annotator, languages: Sequence[str], actor: str = "") -> None:
        """Only prompts in these languages are given to the annotator from now on; none: all are."""
        with self.store.write() as db:
            sql = "UPDATE annotators SET languages = ? WHERE id = ?"
            db.execute(sql, [json.dumps(list(languages)), annotator.id])
            self.store.events.add(actor, "languages", annotator.id, {"languages": list(languages)})

    def open_session(self, annotator: Annotator, token_hash: str, seconds: float) -> None:
        """A session that ends after `seconds`; ended ones go, and of too many of the account the longest unused."""
        now = self.store.clock()
        row = {
            "token_hash": token_hash, "annotator": annotator.id, "created": now, "last_seen": now,
            "expires": now + seconds,
        }  # fmt: skip
        with self.store.write() as db:
            db.execute("DELETE FROM sessions WHERE expires < ?", [now])
            self.insert("sessions", [row])
            db.execute(
                "DELETE FROM sessions WHERE annotator = ? AND token_hash != ? AND token_hash NOT IN "
                "(SELECT token_hash FROM sessions WHERE annotator = ? ORDER BY last_seen DESC LIMIT ?)",
                [annotator.id, token_hash, annotator.id, MOST_SESSIONS],
            )
            self.store.events.add(annotator.id, "login", annotator.id, {})

    def of_session(self, token_hash: str, idle: float = math.inf) -> Annotator | None:
        """Whose session it is, or None if it is unknown, over, unused for `idle` seconds, or the account is not active.

        Reads only.
        """
        now = self.store.clock()
        row = self.row(
            "SELECT a.* FROM annotators AS a JOIN sessions ON annotator = a.id "
            "WHERE token_hash = ? AND expires > ? AND last_seen > ? AND active = 1",
            token_hash,
            now,
            now - idle,
        )
        return from_row(Annotator, row) if row else None

    def note_use(self, token_hash: str) -> None:
        """The session is in use now, whatever the clock says: one that jumps back and forth again ends nothing."""
        with self.store.write(durable=False) as db:
            sql = "UPDATE sessions SET last_seen = max(last_seen, ?) WHERE token_hash = ?"
            db.execute(sql, [self.store.clock(), token_hash])

    def close_sessions(self, annotator: Annotator, actor: str = "") -> int:
        """End every session of the account; how many that were."""
        with self.store.write() as db:
            closed = int(db.execute("DELETE FROM sessions WHERE annotator = ?", [annotator.id]).rowcount)
            self.store.events.add(actor, "sessions ended", annotator.id, {"sessions": closed})
        return closed

    def close_session(self, token_hash: str) -> None:
        """End one session."""
        with self.store.write() as db:
            row = self.row("SELECT annotator FROM sessions WHERE token_hash = ?", token_hash)
            if row:
                db.execute("DELETE FROM sessions WHERE token_hash = ?", [token_hash])
                self.store.events.add(row["annotator"], "logout", row["annotator"], {})

    def active(self, since: float) -> list[Annotator]:
        """Accounts (of those that can log in) that ranked or logged in since that time, or were given a task that is open."""
        rows = self.rows(
            "SELECT a.* FROM annotators AS a WHERE a.active AND a.password_hash != '' AND ("
            "EXISTS (SELECT 1 FROM rankings AS r WHERE r.annotator = a.id AND r.created >= ?) OR "
            "EXISTS (SELECT 1 FROM sessions AS s WHERE s.annotator = a.id AND s.last_seen >= ?) OR "
            "EXISTS (SELECT 1 FROM leases AS l WHERE l.annotator = a.id AND l.released IS NULL AND l.created >= ?)"
            ") ORDER BY a.name",
            since, since, since,
        )  # fmt: skip
        return [from_row(Annotator, row) for row in rows]
