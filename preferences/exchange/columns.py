"""Ranked sets as Arrow columns: a study of a million responses leaves in seconds, where a dict each would take minutes."""

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from preferences.exchange.reading import chunks
from preferences.exchange.schemas import ANNOTATION, RESPONSE, schema
from preferences.exchange.views import Source
from preferences.rankings import ALL_BAD

BATCH = 1000  # comparisons that are read at once

Row = tuple[Any, ...]
Index = dict[str, int]


def ranked_batches(source: Source) -> Iterator[pa.RecordBatch]:
    """Each judged comparison of the source as a row of schema "rankings", in the format of docs/exchange.md."""
    exported = source.store.exported
    columns = schema("rankings")
    for idents in chunks(
        source.store.comparisons.ranked_ids(source.study, source.split, source.simulated, verdicts=True), BATCH
    ):
        prompts = transposed(exported.prompts(idents), 6)
        responses = [list(rows) for _, rows in groupby(exported.responses(idents), itemgetter(0))]
        indices = [{row[1]: i for i, row in enumerate(rows)} for rows in responses]
        rankings = {
            ident: list(rows) for ident, rows in groupby(exported.rankings(idents, source.simulated), itemgetter(0))
        }
        arrays = [
            pa.array(prompts[0]), pa.array(prompts[1]), pa.array(prompts[2]), pa.array(prompts[3]),
            pa.array(map(json.loads, prompts[4]), columns.field("tags").type),
            pa.array(map(json.loads, prompts[5]), columns.field("prompt").type),
            response_column(source, responses, indices),
            annotation_column(source, [rankings[ident] for ident in idents], responses, indices),
        ]  # fmt: skip
        yield pa.RecordBatch.from_arrays(arrays, schema=columns)


def transposed(rows: Sequence[Row], width: int) -> list[Sequence[Any]]:
    """The columns of rows."""
    return list(zip(*rows, strict=True)) or [()] * width


def listed(groups: Sequence[Sequence[Any]], values: pa.Array) -> pa.ListArray:
    """`values` as one list for each group, of the group's length."""
    return pa.ListArray.from_arrays(pa.array([0, *accumulate(map(len, groups))], pa.int32()), values)


def response_column(source: Source, responses: list[list[Row]], indices: list[Index]) -> pa.ListArray:
    """Every response of each comparison, in the record's own order, and where it came from."""
    shown = [
        None if row[1] == row[2] else index[row[2]]
        for rows, index in zip(responses, indices, strict=True)
        for row in rows
    ]
    columns = transposed([row for rows in responses for row in rows], 13)
    models = [source.policies[policy].name for policy in columns[4]]
    values = [columns[3], models, *columns[5:], shown]
    arrays = [pa.array(value, field.type) for value, field in zip(values, RESPONSE, strict=True)]
    return listed(responses, pa.StructArray.from_arrays(arrays, fields=list(RESPONSE)))


def annotation_column(
    source: Source, rankings: list[list[Row]], responses: list[list[Row]], indices: list[Index]
) -> pa.ListArray:
    """Every ranking of each comparison, its items as numbers of responses."""
    rows: list[Row] = []
    for of_one, index, members in zip(rankings, indices, responses, strict=True):
        shown = [row[2] for row in members]
        rows += [annotation(source, row, index, shown) for row in of_one]
    arrays = [
        pa.array(value, field.type) for value, field in zip(transposed(rows, len(ANNOTATION)), ANNOTATION, strict=True)
    ]
    return listed(rankings, pa.StructArray.from_arrays(arrays, fields=list(ANNOTATION)))


def annotation(source: Source, row: Row, index: Index, shown: list[str]) -> Row:
    """One ranking as the fields of ANNOTATION. `shown`: for each response the item that stands for it."""
    _, who, tiers, order, mode, strengths, flags, verdict, ratings, reason, rewrite, rewrite_of, active_ms, created = (
        row
    )
    marks, rated = loaded(flags), loaded(ratings)
    return (
        source.called[who],
        source.annotators[who].simulated,
        [numbers(tier, index, shown) for tier in json.loads(tiers)],
        mode,
        loaded(strengths),
        [marks.get(item, []) for item in shown] if set(marks) - {ALL_BAD} else [],
        ALL_BAD in marks,
        verdict,
        [rated.get(item) for item in shown] if rated else [],
        reason,
        rewrite,
        index[rewrite_of] if rewrite_of else None,
        [index[item] for item in json.loads(order)],
        active_ms,
        created,
    )


def loaded(text: str) -> Any:
    """The JSON text's value; most are empty."""
    return [] if text == "[]" else {} if text == "{}" else json.loads(text)


def numbers(tier: list[str], index: Index, shown: list[str]) -> list[int]:
    """A tier's responses in the record's order; one that is shown as another shares its place."""
    if len(tier) == 1 and shown.count(tier[0]) == 1:
        return [index[tier[0]]]
    return [i for i, item in enumerate(shown) if item in tier]


def ranked_sets(source: Source) -> Iterator[dict[str, Any]]:
    """The same, a dict a comparison."""
    for batch in ranked_batches(source):
        yield from batch.to_pylist()
