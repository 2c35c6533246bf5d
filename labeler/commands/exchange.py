"""`labeler import` and `labeler export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, subcommand

from labeler.commands.study import pick_study
from preferences.cli import DEFAULT_DB, open_store, print_json
from preferences.errors import RankloopError
from preferences.exchange import export, import_prompts, import_ranked_sets
from preferences.store import Store


def check_share(heldout: float) -> None:
    """Raises RankloopError unless it is a share."""
    if not 0 <= heldout <= 1:
        raise RankloopError(f"--heldout is a share from 0 to 1, not {heldout}.")


@dataclass(frozen=True, slots=True)
class Prompts:
    """Import prompts into a study: JSON Lines of {"messages": [{"role", "content"}, ...]}."""

    file: Positional[Path]
    """The file."""
    heldout: float = 0.1
    """The share of new prompts that is kept out of training, with their near-duplicates."""
    study: str | None = None
    """The study (default: the oldest active one, made if there is none)."""
    db: Path = DEFAULT_DB
    """The database; made if it does not exist."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """A file imported twice equals a file imported once."""
        check_share(self.heldout)
        store = Store(self.db)
        study = pick_study(store, self.study)
        prompts = import_prompts(store, study, self.file, self.heldout)
        heldout = sum(prompt.split == "heldout" for prompt in prompts)
        if self.json:
            print_json({"study": study.name, "prompts": len(prompts), "heldout": heldout})
        else:
            print(f"Study {study.name}: {len(prompts)} prompts, {heldout} of them held out of training.")


@dataclass(frozen=True, slots=True)
class Rankings:
    """Import ranked sets: JSON Lines of {"prompt", "responses", "annotations"}."""

    file: Positional[Path]
    """The file."""
    heldout: float = 0.1
    """The share of new prompts that is kept out of training, with their near-duplicates."""
    study: str | None = None
    """The study (default: the oldest active one, made if there is none)."""
    db: Path = DEFAULT_DB
    """The database; made if it does not exist."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """A file imported twice equals a file imported once."""
        check_share(self.heldout)
        store = Store(self.db)
        study = pick_study(store, self.study)
        added = import_ranked_sets(store, study, self.file, self.heldout)
        if self.json:
            print_json({"study": study.name, "rankings": added})
        else:
            print(f"Study {study.name}: {added} new rankings.")


@dataclass(frozen=True, slots=True)
class Import:
    """Import prompts or rankings from a file."""

    action: Annotated[Prompts, subcommand("prompts")] | Annotated[Rankings, subcommand("rankings")]

    def run(self) -> None:
        """Run the chosen one."""
        self.action.run()


@dataclass(frozen=True, slots=True)
class Export:
    """Export a study's current rankings to a file."""

    out: Path
    """The file to write; whole or not at all."""
    format: Literal["jsonl", "trl-preference"] = "jsonl"
    """jsonl: one ranked set a line, with provenance; trl-preference: one pair a line, for TRL's trainers."""
    split: Literal["train", "heldout", "all"] = "train"
    """Which prompts."""
    include_simulated: bool = False
    """Also the rankings of simulated annotators."""
    study: str | None = None
    """The study (default: the oldest active one)."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Nothing to export is an error, not an empty file."""
        store = open_store(self.db)
        study = pick_study(store, self.study)
        split = None if self.split == "all" else self.split
        done = export(store, study, self.format, self.out, split, self.include_simulated)
        if self.json:
            print_json(done)
        else:
            print(f"{done['records']} records of split {done['split']} in {done['out']}.")
