"""Records into files, each whole or not at all."""

import gzip
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from preferences.errors import RankloopError
from preferences.exchange.reading import chunks
from preferences.records import random_id

BATCH = 1000  # records that become Arrow columns at once
GROUP = 5  # batches that are encoded together, as a row group

Record = dict[str, Any]


@contextmanager
def temporary(out: Path) -> Iterator[Path]:
    """A path beside `out` that takes its place when the block ends well, and is removed when it does not.

    Raises RankloopError if that cannot be done.
    """
    made = out.parent / f".{out.name}.{random_id()}"
    try:
        yield made
        if made.is_dir() and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        made.replace(out)
    except OSError as error:
        raise RankloopError(f"{out} cannot be written ({error}); give another --out.") from error
    finally:
        if made.is_dir():
            shutil.rmtree(made, ignore_errors=True)
        else:
            made.unlink(missing_ok=True)


def write_jsonl(records: Iterator[Record], path: Path, packed: bool = False) -> int:
    """One JSON object a line, gzipped if `packed`; how many.

    "<" is written as its escape: a browser that is made to open such a file as HTML finds no tag in it.
    """
    count = 0
    with gzip.open(path, "wb") if packed else path.open("wb") as file:
        for count, record in enumerate(records, start=1):  # noqa: B007
            file.write(json.dumps(record, ensure_ascii=False).replace("<", "\\u003c").encode() + b"\n")
    return count


def write_parquet(batches: Iterator[Any], path: Path, schema: Any) -> int:
    """Record batches of that Arrow schema as a Parquet file; how many rows.

    Each row group is encoded in a thread of its own, which leaves the interpreter to the making of the next.
    """
    import pyarrow as pa
    from pyarrow import parquet

    count, written = 0, None
    options = {"compression": "zstd", "compression_level": 1}
    with parquet.ParquetWriter(path, schema, **options) as writer, ThreadPoolExecutor(1) as encoder:
        for group in chunks(batches, GROUP):
            table = pa.Table.from_batches(group, schema)
            count += len(table)
            if written:
                written.result()
            written = encoder.submit(writer.write_table, table)
        if written:
            written.result()
    return count


def record_batches(records: Iterator[Record], schema: Any, size: int = BATCH) -> Iterator[Any]:
    """Records as batches of that Arrow schema, `size` in each."""
    import pyarrow as pa

    for chunk in chunks(records, size):
        yield pa.RecordBatch.from_pylist(chunk, schema)


def dataset(parts: dict[str, Path]) -> Any:
    """The Parquet files of several splits as a `datasets.DatasetDict`, whose own copies lie beside them."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_parquet(str(path), split=split, cache_dir=str(path.parent / "cache"))
            for split, path in parts.items()
        }
    )
