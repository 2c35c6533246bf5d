"""Exports of a study: a format's records of one moment into a file, a folder or a hub repository."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from preferences.errors import RankloopError
from preferences.exchange import views
from preferences.exchange.card import card
from preferences.exchange.pictures import Pictures, folder_beside, in_bytes
from preferences.exchange.views import Record, Source
from preferences.exchange.writing import BATCH, dataset, record_batches, temporary, write_jsonl, write_parquet
from preferences.records import SPLITS


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of export. `optional`: columns that are left out unless asked for; `split` is one where there are several."""

    rows: Callable[[Source], Iterator[Record]]
    optional: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "rankings": Format(lambda source: ranked_sets(source)),  # noqa: PLW0108
    "trl-preference": Format(views.preference_pairs, ("margin", "soft_label", "split")),
    "trl-unpaired": Format(views.unpaired, ("split",)),
    "sft": Format(views.demonstrations, ("split",)),
    "prompts": Format(views.prompts),
}


PICTURED = 20  # records with pictures that become Arrow columns at once

Kind = Literal["jsonl", "parquet", "dataset"]


def kind_of(out: Path) -> Kind:
    """What the file's name asks for: *.parquet, else JSON Lines."""
    return "parquet" if out.suffix == ".parquet" else "jsonl"


def export(
    source: Source,
    name: str,
    out: Path,
    columns: Sequence[str] = (),
    kind: Kind | None = None,
    card_at: Path | None = None,
) -> dict[str, Any]:
    """Write an export whole or not at all; {"format", "out", "records", "split"}, and with pictures `images` or
    `images_left_out`: how many.

    `columns`: the optional ones that are wanted. `card_at`: where to write the card; a dataset's own is in its folder.
    Raises RankloopError if it would be empty or cannot be written.
    """
    kind = kind or kind_of(out)
    with temporary(out) as made, source.store.snapshot(), pictured(source, out if kind == "jsonl" else None) as taken:
        if kind == "dataset":
            counts = write_folder(taken, name, columns, made)
        else:
            count = write_file(taken, made, name, columns, kind, out.suffix == ".gz")
            counts = {taken.split or "all": count}
        check_some(source, name, counts)
        if card_at:
            with temporary(card_at) as written:
                written.write_text(card(source, name, counts), encoding="utf-8")
    return summary(taken, name, str(out), counts)


def push(
    source: Source, name: str, repository: str, columns: Sequence[str] = (), private: bool = True
) -> dict[str, Any]:
    """Push an export with its card to a dataset repository of the Hugging Face hub; what `export` gives.

    Raises RankloopError if it would be empty or the hub refuses.
    """
    from huggingface_hub import DatasetCard, DatasetCardData, errors

    with (
        source.store.snapshot(), pictured(source) as taken,
        split_files(taken, name, columns) as (parts, counts),
    ):  # fmt: skip
        check_some(source, name, counts)
        try:
            dataset(parts).push_to_hub(repository, private=private)
            ours, made = DatasetCard(card(source, name, counts)), DatasetCard.load(repository)
            # What the push noted there (where each split lies, its columns) stays.
            metadata = {**vars(made.data), **vars(ours.data)}
            ours.data = DatasetCardData(**{key: value for key, value in metadata.items() if value is not None})
            ours.push_to_hub(repository, repo_type="dataset")
        # HTTPError is the network's: no answer, or half of one.
        except (errors.HTTPError, errors.HFValidationError, OSError, ValueError) as error:  # type: ignore[attr-defined]
            reason = " ".join(str(error).split())
            raise RankloopError(
                f"{repository} cannot be pushed to ({reason}); check the name, and log in with `hf auth login`."
            ) from error
    return summary(taken, name, repository, counts)


def without(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The optional columns that are not wanted. Raises RankloopError for one that the format does not have."""
    optional = FORMATS[name].optional
    for column in columns:
        if column not in optional:
            raise RankloopError(f"The format {name} has no optional column {column!r}; leave it out.")
    return tuple(column for column in optional if column not in columns)


def records(source: Source, name: str, columns: Sequence[str]) -> Iterator[Record]:
    """An export's records, less the optional columns that are not wanted."""
    unwanted = without(name, columns)
    for record in FORMATS[name].rows(source):
        for column in unwanted:
            del record[column]
        yield source.pictures.beside(record, name) if source.pictures else record


def write_file(source: Source, path: Path, name: str, columns: Sequence[str], kind: Kind, packed: bool) -> int:
    """One file of all that the source has; how many records."""
    if kind == "parquet":
        return parquet(source, path, name, columns)
    return write_jsonl(records(source, name, columns), path, packed)


def parquet(source: Source, path: Path, name: str, columns: Sequence[str]) -> int:
    """An export as Parquet; how many records."""
    from preferences.exchange.columns import ranked_batches
    from preferences.exchange.schemas import schema

    of_name = schema(name, without(name, columns), source.pictures is not None)
    if name == "rankings" and not source.pictures:
        return write_parquet(ranked_batches(source), path, of_name)
    size = PICTURED if source.pictures else BATCH
    return write_parquet(record_batches(records(source, name, columns), of_name, size), path, of_name)


def ranked_sets(source: Source) -> Iterator[Record]:
    """The records of "rankings"; Arrow is loaded only when there is something to export."""
    from preferences.exchange import columns

    return columns.ranked_sets(source)


def write_folder(source: Source, name: str, columns: Sequence[str], out: Path) -> dict[str, int]:
    """A folder that `datasets.load_from_disk` reads, with its card; how many records each split has."""
    with split_files(source, name, columns) as (parts, counts):
        if parts:
            dataset(parts).save_to_disk(str(out))
            (out / "README.md").write_text(card(source, name, counts), encoding="utf-8")
    return counts


@contextmanager
def pictured(source: Source, beside: Path | None = None) -> Iterator[Source]:
    """The source with the pictures that its prompts show, if any: in a folder beside that file, or in the records."""
    known = source.store.images.shown_in(source.study) if source.images else frozenset()
    if not known:
        yield source
    elif beside is None:
        yield replace(source, pictures=Pictures(source.store, known, in_bytes))
    else:
        with folder_beside(beside) as put:
            yield replace(source, pictures=Pictures(source.store, known, put))


@contextmanager
def split_files(source: Source, name: str, columns: Sequence[str]) -> Iterator[tuple[dict[str, Path], dict[str, int]]]:
    """A Parquet file for each split that has a record, in a folder that lasts as long as the block; and the counts."""
    with TemporaryDirectory(prefix="rankloop-export-") as folder:
        parts, counts = {}, {}
        for split in SPLITS if source.split is None else (source.split,):
            path = Path(folder) / f"{split}.parquet"
            count = parquet(replace(source, split=split), path, name, columns)
            if count:
                parts[split], counts[split] = path, count
        yield parts, counts


def check_some(source: Source, name: str, counts: dict[str, int]) -> None:
    """Raises RankloopError, with the likely reason, if there is no record."""
    if not sum(counts.values()):
        noun, hint = "ranking", " (rankings by simulated annotators need --include-simulated)"
        if name == "prompts" or source.simulated:
            noun, hint = "prompt" if name == "prompts" else noun, ""
        where = f"split {source.split or 'all'}"
        raise RankloopError(f"Study {source.study.name!r} has no {noun} to export from {where}{hint}.")


def summary(source: Source, name: str, out: str, counts: dict[str, int]) -> dict[str, Any]:
    """What was exported, for JSON."""
    done = {"format": name, "out": out, "records": sum(counts.values()), "split": source.split or "all"}
    if source.pictures:
        return {**done, "images": len(source.pictures.used)}
    left_out = 0 if source.images else len(source.store.images.shown_in(source.study))
    return {**done, "images_left_out": left_out} if left_out else done
