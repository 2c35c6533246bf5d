"""The records of a file, one after another: JSON Lines, a JSON array, CSV, Parquet or a folder of `datasets`.

Every reader is a generator that holds one record (of Parquet: one batch), so memory does not grow with the file.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from preferences.errors import BadRecord

T = TypeVar("T")

CHUNK = 1 << 16  # characters of a JSON array that are read at once
BATCH = 500  # rows of Parquet that are decoded at once
PICTURED = 20  # such rows with pictures
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One record, or what is wrong with it. `where`: "line 3"; `split`: that of the `datasets` folder, if it has any."""

    where: str
    value: Any = None
    error: str = ""
    split: str = ""


def rows(path: Path) -> Iterator[Row]:
    """The records of a file or folder, by its name's ending; an unknown ending is read as JSON Lines.

    A record that does not parse is a row with an `error`. Raises BadRecord where the file as a whole cannot be read.
    """
    try:
        if path.is_dir():
            yield from folder_rows(path)
        else:
            yield from file_rows(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadRecord(f"{path} cannot be read ({error}); give another file.") from error


def file_rows(path: Path) -> Iterator[Row]:
    """The records of one file."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        yield from parquet_rows(path)
        return
    with opened(path) as file:
        if name.endswith(".csv"):
            yield from csv_rows(file)
        elif name.endswith(".json") and starts_with_array(file):
            yield from array_rows(io.TextIOWrapper(file, "utf-8-sig", errors="strict"))
        else:
            yield from jsonl_rows(file)


def opened(path: Path) -> IO[bytes]:
    """The file as bytes, unpacked if it is a gzip file whatever its name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def jsonl_rows(file: IO[bytes]) -> Iterator[Row]:
    """One JSON document a line; blank lines are skipped.

    Bytes are split at line feeds alone: a JSON string may hold U+2028 and U+0085 as they are.
    """
    for number, line in enumerate(file, start=1):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):
            yield parsed(f"line {number}", line.removeprefix(b"\xef\xbb\xbf"))


def parsed(where: str, line: bytes) -> Row:
    """A row out of the bytes of one JSON document."""
    try:
        return Row(where, json.loads(line.decode()))
    except UnicodeDecodeError as error:
        return Row(where, error=f"not UTF-8 text ({error.reason} at byte {error.start + 1})")
    except (ValueError, RecursionError) as error:  # ValueError: of a number with thousands of digits
        return Row(where, error=f"not valid JSON ({error})")


def starts_with_array(file: IO[bytes]) -> bool:
    """Whether the first character that is not white space is `[`; the file is at its start again."""
    start = file.read(CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    return start.startswith(b"[")


def array_rows(file: IO[str]) -> Iterator[Row]:
    """The items of one JSON array, as Label Studio and Argilla write them; a broken item ends the file."""
    decoder, number = json.JSONDecoder(), 0
    text = file.read(CHUNK).lstrip().removeprefix("[")
    while True:
        text = text.lstrip(" \t\r\n,")
        try:
            if text.startswith("]"):
                return
            value, end = decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            more = file.read(max(CHUNK, len(text)))
            if not more:
                yield Row(f"item {number + 1}", error=f"not valid JSON ({error.msg})")
                return
            text += more
            continue
        except (ValueError, RecursionError) as error:
            yield Row(f"item {number + 1}", error=f"not valid JSON ({error})")
            return
        number += 1
        text = text[end:]
        yield Row(f"item {number}", value)


def csv_rows(file: IO[bytes]) -> Iterator[Row]:
    """One dict a row, from the names in the first; a cell that is a JSON list or object is parsed.

    Raises BadRecord if there is no header.
    """
    csv.field_size_limit(1 << 30)
    reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
    while True:
        where = "line 1"
        try:
            where = f"line {reader.line_num + 1}" if reader.fieldnames else where
            cells = next(reader, None)
        except (csv.Error, UnicodeDecodeError) as error:
            yield Row(where, error=f"not valid CSV ({error})")
            return
        if cells is None:
            return
        if None in cells or None in cells.values():
            yield Row(where, error=f"it has not {len(reader.fieldnames or ())} cells like the first line")
        else:
            yield Row(where, {name: cell_value(cell) for name, cell in cells.items() if cell != ""})


def cell_value(cell: str) -> Any:
    """The list or object that a cell holds as JSON, else the cell itself."""
    if cell.lstrip().startswith(("[", "{")):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def parquet_rows(path: Path) -> Iterator[Row]:
    """One dict a row, without its nulls. Raises BadRecord if it is no Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from arrow_rows(file.iter_batches(batch_of(file.schema_arrow.names)))
    except (pa.ArrowException, OverflowError, ValueError) as error:  # the last two: of dates that Python does not have
        raise BadRecord(f"{path} cannot be read as Parquet ({error}); give another file.") from error


def batch_of(columns: Sequence[str]) -> int:
    """How many rows of those columns are decoded at once."""
    return PICTURED if "images" in columns else BATCH


def arrow_rows(batches: Iterator[Any], split: str = "") -> Iterator[Row]:
    """The rows of record batches or tables."""
    number = 0
    for batch in batches:
        for value in batch.to_pylist():
            number += 1
            yield Row(f"row {number}", without_nulls(value), split=split)


def without_nulls(value: Any) -> Any:
    """Arrow gives every struct all fields; those that the record never had are null."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def folder_rows(path: Path) -> Iterator[Row]:
    """What `datasets` saved with `save_to_disk`, or else every file of a known ending, in the order of their names."""
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        yield from saved_rows(path)
        return
    files = sorted(file for file in path.rglob("*") if file.name.lower().endswith(SUFFIXES))
    if not files:
        raise BadRecord(f"{path} holds no dataset: no file that ends with {', '.join(SUFFIXES)}.")
    for file in files:
        for row in file_rows(file):
            yield Row(f"{file.relative_to(path)}, {row.where}", row.value, row.error)


def saved_rows(path: Path) -> Iterator[Row]:
    """The rows of a `save_to_disk` folder, each with the name of its split."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise BadRecord(f"{path} cannot be read as a saved dataset ({error}); give another folder.") from error
    parts = loaded if isinstance(loaded, dict) else {"": loaded}
    for split, part in parts.items():
        for row in arrow_rows(part.with_format("arrow").iter(batch_of(part.column_names)), split):
            yield Row(f"{split} {row.where}".strip(), row.value, split=split)


def refuse(sentence: str) -> None:
    """Raises BadRecord: the first bad record ends the reading."""
    raise BadRecord(sentence)


def converted(
    path: Path, convert: Callable[[Any], T], bad: Callable[[str], None] = refuse
) -> Iterator[tuple[str, T, str]]:
    """(where, what `convert` made of it, split) for each record of the file that parses and raises no ValueError there.

    Of each other one `bad` is given a sentence that names file and line. Raises BadRecord for a file without records.
    """
    none = True
    for row in rows(path):
        none, problem = False, row.error
        if not problem:
            try:
                check_text(row.value)
                made = convert(row.value)
            except (ValueError, RecursionError) as error:
                problem = str(error)
        if problem:
            bad(f"{path}, {row.where}: {problem}; correct it.")
        else:
            yield row.where, made, row.split
    if none:
        raise BadRecord(f"{path} has no records; give a file with one JSON object a line.")


def check_text(record: Any) -> None:
    """ValueError if a string holds half of a surrogate pair ("\\ud83d" alone), which UTF-8 cannot express."""
    try:
        json.dumps(record, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text holds half of a surrogate pair, which is no character") from error


def read_jsonl(path: Path, check: Callable[[Any], None]) -> list[dict[str, Any]]:
    """All records of a file at once. Raises BadRecord for the first one that does not parse or that `check` refuses."""

    def same(record: dict[str, Any]) -> dict[str, Any]:
        check(record)
        return record

    return [record for _, record, _ in converted(path, same)]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` of the items."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
