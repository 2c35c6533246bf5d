"""The command line: labeler serve | people | study | import | export | stats | backup | restore | audit | worker-token."""

from typing import Annotated, NoReturn

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, subcommand

from labeler.commands.audit import Audit
from labeler.commands.backup import Backup, Restore
from labeler.commands.exchange import Export, Import
from labeler.commands.people import People
from labeler.commands.serve import Serve
from labeler.commands.stats import Stats
from labeler.commands.study import Study
from labeler.commands.worker_token import WorkerTokenCommand
from preferences.cli import guarded

Command = (
    Annotated[Serve, subcommand("serve")]
    | Annotated[People, subcommand("people")]
    | Annotated[Study, subcommand("study")]
    | Annotated[Import, subcommand("import")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Stats, subcommand("stats")]
    | Annotated[Backup, subcommand("backup")]
    | Annotated[Restore, subcommand("restore")]
    | Annotated[Audit, subcommand("audit")]
    | Annotated[WorkerTokenCommand, subcommand("worker-token")]
)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command that `args` (by default the process's own) name."""
    command: Command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="labeler",
        description="Rank a model's answers in a browser.",
        args=args,
        config=(OmitSubcommandPrefixes, OmitArgPrefixes, FlagCreatePairsOff),
    )
    guarded(command.run)


if __name__ == "__main__":
    main()
