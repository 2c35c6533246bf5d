"""`labeler worker-token`: what lets workers on other hosts in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from labeler.worker_tokens import new_token
from preferences.cli import DEFAULT_DB, open_store, print_json, say
from preferences.jobs import WorkerToken


@dataclass(frozen=True, slots=True)
class Add:
    """Make a token for `trainer worker --server`, and print it once: only its hash is kept."""

    name: Positional[str]
    """What it is called, such as the host's name."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Redirect the output into a file that its owner alone can read."""
        secret = new_token(open_store(self.db), self.name)
        say({"name": self.name, "token": secret}, secret, self.json)


@dataclass(frozen=True, slots=True)
class List:
    """List the tokens, without what opens anything."""

    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """One line a token."""
        tokens = open_store(self.db).worker_tokens.all()
        if self.json:
            print_json([token_json(token) for token in tokens])
            return
        for token in tokens:
            print(f"{token.name}: {'in force' if token.revoked is None else 'revoked'}")


@dataclass(frozen=True, slots=True)
class Revoke:
    """Let the token's worker in no more; its job is taken up by another one."""

    name: Positional[str]
    """Which."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print the token as JSON."""

    def run(self) -> None:
        """From the worker's next request on."""
        token = open_store(self.db).worker_tokens.revoke(self.name)
        say(token_json(token), f"The token {token.name} opens nothing any more.", self.json)


@dataclass(frozen=True, slots=True)
class WorkerTokenCommand:
    """Workers on other hosts: which may do this labeler's jobs."""

    action: (
        Annotated[Add, subcommand("add")]
        | Annotated[List, subcommand("list")]
        | Annotated[Revoke, subcommand("revoke")]
    )

    def run(self) -> None:
        """Run the chosen one."""
        self.action.run()


def token_json(token: WorkerToken) -> dict[str, str | float | None]:
    """What may be shown of a token."""
    return {"name": token.name, "created": token.created, "used": token.used, "revoked": token.revoked}
