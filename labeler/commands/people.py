"""`labeler people`: accounts."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, subcommand

from labeler.accounts import hash_password
from labeler.care import check_name, invite, reset
from labeler.commands.study_care import OfStudy
from preferences.cli import DEFAULT_DB, open_store, print_json, say, shown
from preferences.errors import RankloopError
from preferences.records import Annotator, Role
from preferences.store import Store


class NoPassword(RankloopError):
    """No password was given on standard input."""


@dataclass(frozen=True, slots=True)
class Add:
    """Add an account; its password is the first line of standard input."""

    name: Positional[str]
    """The name to log in with."""
    role: Role
    """annotator ranks; researcher ranks too; admin also manages."""
    password_stdin: bool = False
    """Read the password from standard input (required, so that it is never in a shell's history)."""
    simulated: bool = False
    """A program that ranks: its rankings are left out of exports unless asked for."""
    db: Path = DEFAULT_DB
    """The database; made if it does not exist."""
    json: bool = False
    """Print the account as JSON."""

    def run(self) -> None:
        """The password is checked before the database is opened or made."""
        check_name(self.name)
        password_hash = hash_password(read_password(self.password_stdin), name=self.name)
        account = Store(self.db).annotators.add(self.name, self.role, password_hash, self.simulated)
        show(account, f"{account.name} can log in as {account.role}.", self.json)


@dataclass(frozen=True, slots=True)
class List:
    """List the accounts."""

    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """One line an account."""
        accounts = open_store(self.db).annotators.all()
        if self.json:
            print_json([account_json(account) for account in accounts])
            return
        for account in accounts:
            marks = [
                account.role,
                *(["simulated"] if account.simulated else []),
                *([] if account.active else ["inactive"]),
            ]
            print(shown(f"{account.name}: {', '.join(marks)}"))


@dataclass(frozen=True, slots=True)
class Password:
    """Replace an account's password and end its sessions."""

    name: Positional[str]
    """Whose password."""
    password_stdin: bool = False
    """Read the password from standard input (required)."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print the account as JSON."""

    def run(self) -> None:
        """Read it, hash it, store it."""
        store = open_store(self.db)
        account = store.annotators.get(self.name)
        password_hash = hash_password(read_password(self.password_stdin), name=account.name)
        store.annotators.set_password(account, password_hash)
        show(account, f"{account.name} has a new password.", self.json)


@dataclass(frozen=True, slots=True)
class Reset:
    """Take an account's password, end its sessions, and print a link, good once, at which its owner sets another one."""

    name: Positional[str]
    """Whose password."""
    days: float = 2.0
    """How long the link is good."""
    address: str = "http://127.0.0.1:7860"
    """Where they find this labeler: what the link begins with."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """The old password is void at once."""
        store = open_store(self.db)
        account = store.annotators.get(self.name)
        link = reset(store, account, self.days, self.address)
        say({"name": account.name, "link": link}, f"{account.name}\t{link}", self.json)


@dataclass(frozen=True, slots=True)
class Logout:
    """End every session of an account; its owner can log in again."""

    name: Positional[str]
    """Whose sessions."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """On every device, at their next request."""
        store = open_store(self.db)
        account = store.annotators.get(self.name)
        count = store.annotators.close_sessions(account)
        say({"name": account.name, "sessions": count}, f"{count} sessions of {account.name} are ended.", self.json)


@dataclass(frozen=True, slots=True)
class Remove:
    """Let an account log in no more; its rankings stay."""

    name: Positional[str]
    """Whose account."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print the account as JSON."""

    def run(self) -> None:
        """Deactivate it and end its sessions."""
        store = open_store(self.db)
        account = store.annotators.get(self.name)
        store.annotators.set_active(account, False)
        show(store.annotators.get(account.id), f"{account.name} cannot log in any more.", self.json)


@dataclass(frozen=True, slots=True)
class Erase:
    """Erase a person for good: name, password, settings, drafts and messages go; the audit log keeps ids alone.

    Their rankings stay under a tombstone or are deleted, as each study's `on_erase` says. Backups still have them.
    """

    name: Positional[str]
    """Who."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """It cannot be taken back."""
        store = open_store(self.db)
        done = store.erasures.erase(store.annotators.get(self.name))
        say(done, f"{erased(done)} What was backed up before still has the name.", self.json)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Erase everybody whose time is up, as the studies' `retention_days` say, and was at a sweep a day ago or longer.

    A labeler that serves does it by itself; where none runs all the time, run it once a day.
    """

    now: bool = False
    """Erase whoever is due at once. Whether they are, this machine's clock says: look at it first."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON: of those who were erased."""

    def run(self) -> None:
        """Without a study that sets it, nobody."""
        store = open_store(self.db)
        done = store.erasures.sweep(at_once=self.now)
        lines, noted = [erased(one) for one in done], len(store.erasures.noted())
        if noted:
            lines.append(f"{noted} noted as due: a sweep a day from now or later erases them (--now: at once).")
        say(done, "\n".join(lines) or "Nobody's time is up.", self.json)


@dataclass(frozen=True, slots=True)
class Invite:
    """Invite people: read names from standard input (one a line), print a link for each.

    A link is good once; whoever opens it sets the password of their account. A name that was invited and has not joined
    gets a new link, and the old one ends.
    """

    role: Role = "annotator"
    """What they become."""
    days: float = 7.0
    """How long the links are good."""
    languages: tuple[str, ...] = ()
    """Languages of the prompts they are given, as the prompts name them; none: all."""
    address: str = "http://127.0.0.1:7860"
    """Where they find this labeler: what the links begin with."""
    db: Path = DEFAULT_DB
    """The database; made if it does not exist."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """All or none."""
        links = invite(Store(self.db), sys.stdin.read(), self.role, self.days, self.languages, self.address)
        document = [{"name": name, "link": link} for name, link in links]
        say(document, "\n".join(f"{name}\t{link}" for name, link in links), self.json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualify(OfStudy):
    """Let somebody rank who did not pass the qualification, or (--fail) keep somebody out who did."""

    name: Positional[str]
    """Whose account."""
    fail: bool = False
    """Keep them out."""
    json: bool = False
    """Print the account as JSON."""

    def run(self) -> None:
        """Whatever their score was."""
        store, study = self.opened()
        account = store.annotators.get(self.name)
        store.golds.decide(study, account, not self.fail)
        show(account, f"{account.name} {'may not' if self.fail else 'may'} rank in {study.name}.", self.json)


@dataclass(frozen=True, slots=True)
class Languages:
    """Set the languages of the prompts that somebody is given."""

    name: Positional[str]
    """Whose account."""
    languages: Positional[tuple[str, ...]] = ()
    """As the prompts name them; none: all."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print the account as JSON."""

    def run(self) -> None:
        """From the next task on."""
        store = open_store(self.db)
        account = store.annotators.get(self.name)
        store.annotators.set_languages(account, self.languages)
        words = ", ".join(self.languages) or "all languages"
        show(store.annotators.get(account.id), f"{account.name} is given prompts in {words}.", self.json)


@dataclass(frozen=True, slots=True)
class People:
    """Accounts: who may log in."""

    action: (
        Annotated[Add, subcommand("add")]
        | Annotated[List, subcommand("list")]
        | Annotated[Password, subcommand("password")]
        | Annotated[Reset, subcommand("reset")]
        | Annotated[Logout, subcommand("logout")]
        | Annotated[Remove, subcommand("remove")]
        | Annotated[Erase, subcommand("erase")]
        | Annotated[Sweep, subcommand("sweep")]
        | Annotated[Invite, subcommand("invite")]
        | Annotated[Qualify, subcommand("qualify")]
        | Annotated[Languages, subcommand("languages")]
    )

    def run(self) -> None:
        """Run the chosen one."""
        self.action.run()


def read_password(from_stdin: bool) -> str:
    """The first line of standard input. Raises NoPassword."""
    if not from_stdin:
        raise NoPassword("Give the password on standard input and say --password-stdin.")
    try:
        password = sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise NoPassword("The password on standard input is not text in this terminal's encoding.") from error
    if not password:
        raise NoPassword("There is no password on standard input.")
    return password


def erased(done: dict[str, Any]) -> str:
    """What an erasure did, for people."""
    return f"{done['name']} stands for the person: {done['kept']} answers kept, {done['deleted']} deleted."


def account_json(account: Annotator) -> dict[str, Any]:
    """What may be shown of an account."""
    return {
        "name": account.name,
        "role": account.role,
        "simulated": account.simulated,
        "active": account.active,
        "languages": account.languages,
        "created": account.created,
    }


def show(account: Annotator, sentence: str, as_json: bool) -> None:
    """Print the account as JSON, or the sentence."""
    say(account_json(account), sentence, as_json)
