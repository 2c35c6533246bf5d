"""`labeler audit`: who did what."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labeler.commands.study_care import day
from preferences.cli import DEFAULT_DB, open_store, say
from preferences.records import Event
from preferences.store import Store


@dataclass(frozen=True, slots=True)
class Audit:
    """Print the audit log, newest first: who did what to whom, and when. Nothing in it is ever changed or removed."""

    who: str | None = None
    """Only what that account did (a name or id; "" for the command line)."""
    since: str | None = None
    """From this day on (YYYY-MM-DD)."""
    limit: int = 100
    """How many lines at most."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Accounts by the names that they have now."""
        store = open_store(self.db)
        actor = store.annotators.get(self.who).id if self.who else self.who
        lines = audit_json(store, store.events.newest(max(0, self.limit), actor, day(self.since, 0.0)))
        say(lines, "\n".join(map(text_of, lines)), self.json)


def audit_json(store: Store, events: list[Event]) -> list[dict[str, Any]]:
    """[{"at" (ISO 8601), "actor", "kind", "subject", "detail"}]; accounts by name, "" for the command line."""
    names = {account.id: account.name for account in store.annotators.all()}
    return [
        {
            "at": datetime.fromtimestamp(event.at).astimezone().isoformat(timespec="seconds"),
            "actor": names.get(event.actor, event.actor),
            "kind": event.kind,
            "subject": names.get(event.subject, event.subject),
            "detail": event.detail,
        }
        for event in events
    ]


def text_of(line: dict[str, Any]) -> str:
    """A line of the log for people; what acts unseen in a name is escaped."""
    detail = json.dumps(line["detail"]) if line["detail"] else ""
    said = f"{line['at']}  {line['actor'] or 'command line'}  {line['kind']}  {line['subject']}  {detail}".rstrip()
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in said)
