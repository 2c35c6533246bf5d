"""Ranked sets as Arrow columns: a study of a million responses leaves in seconds, where a dict each would take minutes."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa

from preferences.exchange.reading import chunks
from preferences.exchange.schemas import ANNOTATION, RESPONSE, schema
from preferences.exchange.views import Source
from preferences.rankings import ALL_BAD
from preferences.records import Tiers

BATCH = 1000  # comparisons that are read at once

Column = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Members:
    """A comparison's responses. `number`: response -> its number in the record; `shown`: the item that each is shown as.

    `twins`: whether one is shown as another.
    """

    number: dict[str, int]
    shown: Sequence[str]
    twins: bool

    def tiers(self, tiers: Tiers) -> list[list[int]]:
        """A ranking's tiers as numbers, in the record's order; a response that is shown as another shares its place."""
        if self.twins:
            return [[i for i, item in enumerate(self.shown) if item in tier] for tier in tiers]
        number = self.number
        return [sorted([number[item] for item in tier]) for tier in tiers]


def ranked_batches(source: Source) -> Iterator[pa.RecordBatch]:
    """Each judged comparison of the source as a row of schema "rankings", in the format of docs/exchange.md."""
    exported = source.store.exported
    of = schema("rankings")
    judged = source.store.comparisons.ranked_ids(source.study, source.split, source.simulated, verdicts=True)
    for idents in chunks(judged, BATCH):
        prompts = transposed(exported.prompts(idents), 6)
        responses = transposed(exported.responses(idents), 13)
        rankings = transposed(exported.rankings(idents, source.simulated), 14)
        starts = starts_of(responses[0], len(idents))
        members = members_of(responses, starts)
        arrays = [
            pa.array(prompts[0]), pa.array(prompts[1]), pa.array(prompts[2]), pa.array(prompts[3]),
            pa.array(parsed(prompts[4]), of.field("tags").type), pa.array(parsed(prompts[5]), of.field("prompt").type),
            listed(starts, response_struct(source, responses, members)),
            listed(starts_of(rankings[0], len(idents)), annotation_struct(source, rankings, members)),
        ]  # fmt: skip
        yield pa.RecordBatch.from_arrays(arrays, schema=of)


def transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[Column]:
    """The columns of rows."""
    return list(zip(*rows, strict=True)) or [()] * width


def parsed(texts: Column) -> list[Any]:
    """The values of JSON texts; at once, since most are so short that a call for each would be most of the work."""
    found: list[Any] = json.loads(f"[{','.join(texts)}]")
    return found


def starts_of(comparison: Column, count: int) -> list[int]:
    """Where the rows of each of `count` comparisons begin, and the end; `comparison`: each row's, ascending."""
    rows = Counter(comparison)
    return [0, *accumulate(rows[number] for number in range(count))]


def members_of(responses: list[Column], starts: list[int]) -> list[Members]:
    """The responses of each comparison."""
    _, response, shown, *_ = responses
    return [
        Members(dict(zip(response[start:end], range(end - start), strict=True)), shown[start:end],
                twins=response[start:end] != shown[start:end])
        for start, end in pairwise(starts)
    ]  # fmt: skip


def listed(starts: list[int], values: pa.Array) -> pa.ListArray:
    """`values` as one list for each comparison."""
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), values)


def struct(columns: Sequence[Column], of: pa.StructType) -> pa.StructArray:
    """The columns as the fields of a struct."""
    arrays = [pa.array(column, field.type) for column, field in zip(columns, of, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(of))


def response_struct(source: Source, responses: list[Column], members: list[Members]) -> pa.StructArray:
    """Every response, in the record's own order, and where it came from."""
    comparison, response, shown, text, policy, *sampling = responses
    models = [source.policies[ident].name for ident in policy]
    same_as = [
        None if item == own else members[at].number[item]
        for at, own, item in zip(comparison, response, shown, strict=True)
    ]
    return struct([text, models, *sampling, same_as], RESPONSE)


def annotation_struct(source: Source, rankings: list[Column], members: list[Members]) -> pa.StructArray:
    """Every ranking, its items as numbers of responses."""
    comparison, who, tiers, order, mode, strengths, flags, verdict, ratings, *rest = rankings
    reason, rewrite, rewrite_of, *times = rest
    of = [members[at] for at in comparison]
    marks, rated = parsed(flags), parsed(ratings)
    columns: list[Column] = [
        [source.called[ident] for ident in who],
        [source.annotators[ident].simulated for ident in who],
        [one.tiers(said) for one, said in zip(of, parsed(tiers), strict=True)],
        mode,
        parsed(strengths),
        [by_item(said, one, []) if said.keys() - {ALL_BAD} else [] for one, said in zip(of, marks, strict=True)],
        [ALL_BAD in said for said in marks],
        verdict,
        [by_item(said, one, None) if said else [] for one, said in zip(of, rated, strict=True)],
        reason,
        rewrite,
        [one.number[item] if item else None for one, item in zip(of, rewrite_of, strict=True)],
        [[one.number[item] for item in items] for one, items in zip(of, parsed(order), strict=True)],
        *times,
    ]
    return struct(columns, ANNOTATION)


def by_item(said: dict[str, Any], members: Members, nothing: Any) -> list[Any]:
    """What is said of the item that each response is shown as."""
    return [said.get(item, nothing) for item in members.shown]


def ranked_sets(source: Source) -> Iterator[dict[str, Any]]:
    """The same, a dict a comparison."""
    for batch in ranked_batches(source):
        yield from batch.to_pylist()
