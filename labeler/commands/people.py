"""`labeler people`: accounts."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, subcommand

from labeler.accounts import hash_password
from preferences.cli import DEFAULT_DB, open_store, print_json
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
        password_hash = hash_password(read_password(self.password_stdin))
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
            print(f"{account.name}: {', '.join(marks)}")


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
        store.annotators.set_password(account, hash_password(read_password(self.password_stdin)))
        show(account, f"{account.name} has a new password.", self.json)


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
class People:
    """Accounts: who may log in."""

    action: (
        Annotated[Add, subcommand("add")]
        | Annotated[List, subcommand("list")]
        | Annotated[Password, subcommand("password")]
        | Annotated[Remove, subcommand("remove")]
    )

    def run(self) -> None:
        """Run the chosen one."""
        self.action.run()


def check_name(name: str) -> None:
    """Raises RankloopError unless it is a name that can be typed at the login page."""
    if name != name.strip() or not name.isprintable() or not 1 <= len(name) <= 200:
        raise RankloopError("A name has 1 to 200 printable characters and no space at its ends; choose another one.")


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


def account_json(account: Annotator) -> dict[str, Any]:
    """What may be shown of an account."""
    return {
        "name": account.name,
        "role": account.role,
        "simulated": account.simulated,
        "active": account.active,
        "created": account.created,
    }


def show(account: Annotator, sentence: str, as_json: bool) -> None:
    """Print the account as JSON, or the sentence."""
    if as_json:
        print_json(account_json(account))
    else:
        print(sentence)
