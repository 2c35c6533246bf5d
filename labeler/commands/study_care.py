"""`labeler study`: what is done to a study under way: exclusions, older guidelines, gold, hours."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from labeler.care import hours_csv
from preferences.cli import DEFAULT_DB, open_store, say
from preferences.errors import RankloopError
from preferences.exchange.golds import import_golds
from preferences.records import Study as StudyRecord
from preferences.store import Store


def pick_study(store: Store, name: str | None) -> StudyRecord:
    """The study of that name, else the oldest active one. Raises UnknownName."""
    return store.studies.get(name) if name else store.studies.default()


@dataclass(frozen=True, slots=True)
class OfStudy:
    """Which study, and how to answer."""

    study: str | None = None
    """The study (default: the oldest active one)."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def opened(self) -> tuple[Store, StudyRecord]:
        """The store and the study. Raises BadDatabase, UnknownName."""
        store = open_store(self.db)
        return store, pick_study(store, self.study)

    def say(self, document: dict[str, Any], sentence: str) -> None:
        """Print one of them."""
        say(document, sentence, self.json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclude(OfStudy):
    """Count none of an annotator's rankings in a study, and ask others instead; it can be taken back."""

    name: Positional[str]
    """Whose rankings."""
    reason: str
    """Why; it is kept."""

    def run(self) -> None:
        """Exports, statistics and training see it at once."""
        store, study = self.opened()
        account = store.annotators.get(self.name)
        count = store.exclusions.exclude(study, account, self.reason)
        document = {"study": study.name, "excluded": account.name, "acts": count}
        self.say(document, f"{count} answers of {account.name} no longer count in {study.name}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Include(OfStudy):
    """Take an exclusion back."""

    name: Positional[str]
    """Whose rankings count again."""

    def run(self) -> None:
        """What others ranked meanwhile stays."""
        store, study = self.opened()
        account = store.annotators.get(self.name)
        count = store.exclusions.lift(study, account)
        document = {"study": study.name, "included": account.name, "acts": count}
        self.say(document, f"{count} answers of {account.name} count in {study.name} again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue(OfStudy):
    """Have all that was ranked under older guidelines ranked again; the old rankings stay on record."""

    def run(self) -> None:
        """From the next task on."""
        store, study = self.opened()
        count = store.exclusions.requeue_outdated(study)
        self.say({"study": study.name, "rankings": count}, f"{count} rankings of {study.name} are asked for again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold(OfStudy):
    """Import comparisons whose good answer is known: JSON Lines of {"prompt", "responses", "ranking", "explanation"}."""

    file: Positional[Path]
    """The file."""

    def run(self) -> None:
        """The plan says how many of them are a newcomer's qualification."""
        store, study = self.opened()
        count = import_golds(store, study, self.file)
        total = len(store.golds.all(study))
        document = {"study": study.name, "golds": count, "total": total}
        self.say(document, f"{count} gold comparisons read; {study.name} has {total}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours(OfStudy):
    """Print the active hours of each annotator of a study as CSV."""

    since: str | None = None
    """From this day on (YYYY-MM-DD)."""
    until: str | None = None
    """Before this day (YYYY-MM-DD)."""
    out: Path | None = None
    """Write to this file instead."""

    def run(self) -> None:
        """Every ranking and skip counts, also those that were changed later."""
        store, study = self.opened()
        text = hours_csv(store, study, day(self.since, 0.0), day(self.until, float("inf")))
        if self.out is None:
            print(text, end="")
            return
        try:
            self.out.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise RankloopError(f"{self.out} cannot be written ({error}); give another --out.") from error
        self.say({"study": study.name, "out": str(self.out)}, f"The hours of {study.name} are in {self.out}.")


def day(text: str | None, otherwise: float) -> float:
    """When that day begins, by the clock of this machine. Raises RankloopError."""
    if text is None:
        return otherwise
    try:
        return datetime.strptime(text, "%Y-%m-%d").timestamp()
    except ValueError as error:
        raise RankloopError(f"A day is written YYYY-MM-DD, not {text!r}.") from error
