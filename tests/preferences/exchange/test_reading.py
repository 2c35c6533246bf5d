"""The records of files of every kind."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from preferences.errors import BadRecord
from preferences.exchange.checks import check_demonstration, check_prompt
from preferences.exchange.reading import CHUNK, read_jsonl, rows
from tests.preferences.exchange.make import ODD, write_lines

RECORDS = [
    {"prompt": [{"role": "user", "content": ODD}], "n": 1},
    {"prompt": [{"role": "user", "content": "x" * CHUNK}], "n": 2},
    {"prompt": [], "n": 3},
]


def values(path: Path) -> list[Any]:
    found = list(rows(path))
    assert [row.error for row in found] == [""] * len(found)
    return [row.value for row in found]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"missing\.jsonl cannot be read"):
        read_jsonl(tmp_path / "missing.jsonl", check_prompt)
    (tmp_path / "latin.jsonl").write_bytes(b'{"x": "\xe9"}\n')
    with pytest.raises(BadRecord, match=r"latin\.jsonl, line 1: not UTF-8 text"):
        read_jsonl(tmp_path / "latin.jsonl", check_prompt)


def test_lines_end_with_a_line_feed_and_nothing_else(tmp_path: Path) -> None:
    """U+2028 and U+0085 may stand in a JSON string as they are; a byte-order mark and Windows line ends do no harm."""
    record = {"messages": [{"role": "user", "content": ODD}, {"role": "assistant", "content": "Yes."}]}
    line = json.dumps(record, ensure_ascii=False)
    (tmp_path / "d.jsonl").write_bytes(f"\ufeff{line}\r\n{line}".encode())
    assert read_jsonl(tmp_path / "d.jsonl", check_demonstration) == [record, record]


def save(kind: str, folder: Path) -> Path:
    """RECORDS as a file of that kind."""
    path = folder / kind
    if kind == "r.jsonl":
        return write_lines(path, RECORDS)
    if kind == "packed.jsonl.gz":
        path.write_bytes(gzip.compress(write_lines(folder / "plain", RECORDS).read_bytes()))
    elif kind == "r.json":
        path.write_text("\ufeff" + json.dumps(RECORDS, indent=2, ensure_ascii=False), encoding="utf-8")
    elif kind == "r.parquet":
        parquet.write_table(pa.Table.from_pylist(RECORDS), path)
    elif kind == "saved":
        datasets.DatasetDict({"train": datasets.Dataset.from_list(RECORDS)}).save_to_disk(str(path))
    else:
        (path / "data").mkdir(parents=True)
        write_lines(path / "data" / "one.jsonl", RECORDS[:2])
        parquet.write_table(pa.Table.from_pylist(RECORDS[2:]), path / "data" / "two.parquet")
        (path / "README.md").write_text("no data")
    return path


@pytest.mark.parametrize("kind", ["r.jsonl", "packed.jsonl.gz", "r.json", "r.parquet", "saved", "folder"])
def test_every_kind_of_file_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    assert values(save(kind, tmp_path)) == RECORDS


def test_a_saved_dataset_says_which_split(tmp_path: Path) -> None:
    assert [(row.where, row.split) for row in rows(save("saved", tmp_path))][:2] == [
        ("train row 1", "train"), ("train row 2", "train")
    ]  # fmt: skip


def test_csv_cells_are_texts_lists_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes('\ufeffprompt,n,tags\r\n"two\nlines, ""quoted""",1,"[""a""]"\r\n{odd,,\r\n'.encode())
    assert values(path) == [{"prompt": 'two\nlines, "quoted"', "n": "1", "tags": ["a"]}, {"prompt": "{odd"}]


@pytest.mark.security
@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "content", "where", "words"),
    [
        ("x.jsonl", b'{}\n\n{"a": }\n', "line 3", "not valid JSON"),
        ("x.jsonl", b'{}\n"\xe9"\n', "line 2", "not UTF-8"),
        ("x.json", b'[{}, {"a": 1}, {"a": ]', "item 3", "not valid JSON"),
        ("x.json", b"[{}, {}", "item 3", "not valid JSON"),
        ("x.jsonl", b'{}\n{"n": ' + b"9" * 5000 + b"}\n", "line 2", "not valid JSON"),
        ("x.jsonl", b"{}\n" + b"[" * 200_000 + b"\n", "line 2", "not valid JSON"),
        ("x.json", b'[{}, {"n": ' + b"9" * 5000 + b"}, {}]", "item 2", "not valid JSON"),
        ("x.json", b"[{}, " + b"[" * 200_000, "item 2", "not valid JSON"),
        ("x.csv", b"a,b\n1,2\n3\n", "line 3", "2 cells"),
        ("x.csv", b"a,b\n1,2,3\n", "line 2", "2 cells"),
        ("x.csv", b'a\n"open\n', "line 2", "not valid CSV"),
        ("x.csv", b"a\n\xe9\n", "line", "not valid CSV"),
    ],
)
def test_a_broken_record_is_named_by_its_place(
    tmp_path: Path, name: str, content: bytes, where: str, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    broken = [row for row in rows(tmp_path / name) if row.error]
    assert len(broken) == 1 and broken[0].where.startswith(where) and words in broken[0].error


@pytest.mark.security
@pytest.mark.smoke
@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl.gz", "latin.json", "saved", "empty"])
def test_a_file_that_is_broken_as_a_whole_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "x.parquet":
        path.write_bytes(b"PAR1 no PAR1")
    elif name == "x.jsonl.gz":
        path.write_bytes(gzip.compress(b"{}\n" * 5000)[:30])
    elif name == "latin.json":
        path.write_bytes(b'[{"x": "\xe9"}]')
    else:
        path.mkdir()
        if name == "saved":
            (path / "state.json").write_text("{}")
    with pytest.raises(BadRecord, match=f"{name} (cannot be read|holds no dataset)") as caught:
        list(rows(path))
    assert "\n" not in str(caught.value)


def test_a_cell_that_is_no_json_is_a_text_however_long_its_numbers_and_deep_its_lists(tmp_path: Path) -> None:
    for cell in (f"[{'9' * 5000}]", "[" * 200_000):
        (tmp_path / "x.csv").write_text(f"a\n{cell}\n")
        assert values(tmp_path / "x.csv") == [{"a": cell}]
