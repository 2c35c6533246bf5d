"""`labeler import` and `labeler export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from labeler.commands.study_care import pick_study
from preferences.cli import DEFAULT_DB, note_taken, open_store, say, without_collection
from preferences.errors import RankloopError
from preferences.exchange.exporting import FORMATS, export, push
from preferences.exchange.formats import SETS
from preferences.exchange.importing import Imported, import_prompts, import_rankings
from preferences.exchange.views import Source
from preferences.store import Store

Format = Literal["rankloop", "trl-preference", "hh", "oasst", "argilla", "label-studio", "prompts"]
OLD_NAMES: dict[str, Format] = {"prompts": "prompts", "rankings": "rankloop"}


def check_share(heldout: float) -> None:
    """Raises RankloopError unless it is a share."""
    if not 0 <= heldout <= 1:
        raise RankloopError(f"--heldout is a share from 0 to 1, not {heldout}.")


@dataclass(frozen=True, slots=True)
class Import:
    """Import prompts or rankings from a file; whole or not at all, and the same file again changes nothing."""

    file: Positional[tuple[str, ...]]
    """The file (JSON Lines, JSON array, CSV, Parquet; gzipped or not) or a folder of `datasets`. The short forms
    `import prompts FILE` and `import rankings FILE` name the format in front of it."""
    format: Format | None = None
    """rankloop: ranked sets with their annotators; trl-preference: TRL's pairs, standard or conversational; hh: Anthropic's
    transcripts; oasst: Open-Assistant's trees; argilla, label-studio: what these export; prompts: prompts alone."""
    skip_bad: bool = False
    """Leave bad records out, and say how many, instead of stopping at the first."""
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
        format, path = self.chosen()
        store = Store(self.db)
        study = pick_study(store, self.study)
        if format == "prompts":
            done = import_prompts(store, study, path, self.heldout, self.skip_bad)
        else:
            done = import_rankings(store, study, path, SETS[format], self.heldout, self.skip_bad)
        say({"study": study.name, **done.as_dict()}, "\n".join(lines(study.name, done)), self.json)

    def chosen(self) -> tuple[Format, Path]:
        """The format and the file. Raises RankloopError unless both are given once."""
        *words, file = self.file or ("",)
        format = self.format or (OLD_NAMES.get(words[0]) if words else None)
        if not file or len(words) > 1 or (words and (self.format or words[0] not in OLD_NAMES)):
            raise RankloopError("Give one file: `labeler import FILE --format rankloop`.")
        if format is None:
            raise RankloopError(f"Say what {file} holds: --format rankloop, or another one that --help lists.")
        return format, Path(file)


def lines(study: str, done: Imported) -> list[str]:
    """What an import did, for people."""
    said = [
        f"Study {study}: {done.prompts} prompts, {done.heldout} of them held out of training; "
        f"{done.new_prompts} prompts, {done.comparisons} comparisons and {done.rankings} rankings are new."
    ]
    if done.cannot_rank:
        said.append(f"{done.cannot_rank} verdicts that a set cannot be ranked are new.")
    if done.replaced:
        said.append(f"{done.replaced} of these rankings replace an earlier one by the same annotator.")
    if done.intransitive:
        said.append(f"{done.intransitive} sets of pairs fit no ranking and stay pairs.")
    if done.incomplete:
        said.append(f"{done.incomplete} sets of pairs leave a pair out and stay pairs.")
    if done.skipped:
        said.append(f"{done.skipped} bad records were left out; the first: {done.problems[0]}")
    return said


@dataclass(frozen=True, slots=True)
class Export:
    """Export a study as it is at this moment to a file, a folder or the Hugging Face hub."""

    out: Path | None = None
    """The file or folder to write; whole or not at all. *.jsonl, *.jsonl.gz, *.parquet."""
    format: Literal["jsonl", "rankings", "trl-preference", "trl-unpaired", "sft", "prompts"] = "jsonl"
    """jsonl (or rankings): ranked sets with provenance, which `import --format rankloop` reads; trl-preference: pairs;
    trl-unpaired: acceptable or not, for KTO; sft: rewrites and top answers; prompts."""
    kind: Literal["jsonl", "parquet", "dataset"] | None = None
    """What to write (default: by the ending of --out); dataset: a folder for `datasets.load_from_disk`."""
    push_to_hub: str | None = None
    """Push to this dataset repository (owner/name) instead of writing to --out."""
    public: bool = False
    """Make the pushed repository public."""
    split: Literal["train", "heldout", "all"] = "train"
    """Which prompts. Where records of both would stand in one file, each says its split."""
    margins: bool = False
    """trl-preference: with a `margin` from the strengths."""
    soft_labels: bool = False
    """trl-preference: with a `soft_label`, the share of annotators who prefer `chosen`."""
    annotator_model: bool = False
    """trl-preference: weigh annotators by their accuracy (after Dawid and Skene) in which response is chosen and in
    `soft_label`, instead of counting each vote alike."""
    include_simulated: bool = False
    """Also the rankings of simulated annotators."""
    images: bool = True
    """Take along the pictures that prompts show: in a column `images` of Parquet and datasets, else in a folder beside the
    file. For training a model that takes texts alone: --no-images."""
    names: bool = False
    """Name the annotators (default: a pseudonym each, the same at each export of the study)."""
    card: Path | None = None
    """Write a dataset card there; a dataset folder and the hub always have one."""
    license: str = "unknown"
    """The licence that the card states."""
    citation: str = ""
    """The citation that the card gives."""
    study: str | None = None
    """The study (default: the oldest active one)."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Nothing to export is an error, not an empty file."""
        if (self.out is None) == (self.push_to_hub is None):
            raise RankloopError("Say where to: --out FILE or --push-to-hub OWNER/NAME.")
        name = "rankings" if self.format == "jsonl" else self.format
        store = open_store(self.db)
        study = pick_study(store, self.study)
        source = Source.of(
            store, study, None if self.split == "all" else self.split,
            simulated=self.include_simulated, names=self.names, license=self.license, citation=self.citation,
            annotator_model=self.annotator_model, images=self.images,
        )  # fmt: skip
        with without_collection():
            if self.out:
                done = export(source, name, self.out, self.columns(name), self.kind, self.card)
            else:
                assert self.push_to_hub
                done = push(source, name, self.push_to_hub, self.columns(name), not self.public)
        detail = {"format": self.format, "split": self.split, "names": self.names, "hub": self.push_to_hub}
        note_taken(store, "export", study.id, detail)
        sentence = f"{done['records']} records of split {done['split']} in {done['out']}."
        if "images" in done:
            sentence += f" With {done['images']} pictures."
        if "images_left_out" in done:
            sentence += f" {done['images_left_out']} pictures were left out; the texts still name them."
        say({**done, "format": self.format}, sentence, self.json)

    def columns(self, name: str) -> list[str]:
        """The optional columns that are wanted."""
        both = self.split == "all" and self.kind != "dataset" and self.out is not None
        wanted = {"margin": self.margins, "soft_label": self.soft_labels}
        wanted["split"] = both and "split" in FORMATS[name].optional
        return [column for column, yes in wanted.items() if yes]
