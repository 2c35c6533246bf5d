"""Ranked sets as Arrow columns: a study of a million responses leaves in seconds, where a dict each would take minutes."""

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from typing import Any

import pyarrow as pa

from preferences.exchange.reading import chunks
from preferences.exchange.schemas import ANNOTATION, RESPONSE, schema
from preferences.exchange.views import Source
from preferences.rankings import ALL_BAD
from preferences.records import Tiers
from preferences.store import Store
from preferences.tables.bulk import Column

BATCH = 1000  # comparisons that are read at once

COUNTED = range(9)  # the numbers of a record's responses


@dataclass(frozen=True, slots=True)
class Members:
    """The responses of some comparisons, one after the other; those of comparison c are starts[c]:starts[c + 1].

    `response`: their ids; `shown`: the item that each is shown as, "" for itself. `numbers`: of each comparison, a response
    -> its number in the record.
    """

    starts: list[int]
    response: Column
    shown: Column
    numbers: list[dict[str, int]]

    @staticmethod
    def of(columns: Sequence[Column], count: int) -> "Members":
        """Of the columns of `Exported.members` of `count` comparisons."""
        comparison, response, shown = columns
        starts = starts_of(comparison, count)
        numbers = [dict(zip(response[start:end], COUNTED, strict=False)) for start, end in pairwise(starts)]
        return Members(starts, response, shown, numbers)

    def items(self, comparison: int) -> list[str]:
        """The item that each response of the comparison is shown as."""
        of = slice(self.starts[comparison], self.starts[comparison + 1])
        return [item or own for own, item in zip(self.response[of], self.shown[of], strict=True)]

    def tiers(self, comparisons: Column, rankings: Sequence[Tiers]) -> list[list[list[int]]]:
        """Each ranking's tiers as numbers, in the record's order; a response that is shown as another shares its place."""
        if any(self.shown):
            return [
                [[i for i, item in enumerate(self.items(at)) if item in tier] for tier in tiers]
                for at, tiers in zip(comparisons, rankings, strict=True)
            ]
        found = []
        for at, tiers in zip(comparisons, rankings, strict=True):
            number = self.numbers[at]
            found.append(
                [[number[tier[0]]] if len(tier) == 1 else sorted([number[item] for item in tier]) for tier in tiers]
            )
        return found


def ranked_batches(source: Source) -> Iterator[pa.RecordBatch]:
    """Each judged comparison of the source as a row of schema "rankings", in the format of docs/exchange.md.

    Responses are read ahead by another thread.
    """
    exported = source.store.exported
    of = schema("rankings")
    judged = source.store.comparisons.ranked_ids(source.study, source.split, source.simulated, verdicts=True)
    for idents, (members, responses) in read_ahead(source.store, chunks(judged, BATCH)):
        *origin, tags, messages = exported.prompts(idents)
        rankings = transposed(exported.rankings(idents, source.simulated), 14)
        arrays = [
            pa.array(idents), *map(pa.array, origin),
            pa.array(parsed(tags), of.field("tags").type), pa.array(parsed(messages), of.field("prompt").type),
            listed(members.starts, response_struct(source, members, responses)),
            listed(starts_of(rankings[0], len(idents)), annotation_struct(source, rankings, members)),
        ]  # fmt: skip
        yield pa.RecordBatch.from_arrays(arrays, schema=of)


Read = tuple[Members, list[Column]]


def read_ahead(store: Store, batches: Iterator[list[str]]) -> Iterator[tuple[list[str], Read]]:
    """Each batch of comparisons with its responses, while a thread reads those of the next.

    The thread has a connection and a snapshot of its own, a moment younger: what it reads is only ever added to.
    """
    with ThreadPoolExecutor(1) as thread:
        snapshot = store.snapshot()
        thread.submit(snapshot.__enter__).result()
        try:
            coming = deque((idents, thread.submit(read, store, idents)) for idents in islice(batches, 1))
            while coming:
                coming.extend((idents, thread.submit(read, store, idents)) for idents in islice(batches, 1))
                idents, found = coming.popleft()
                yield idents, found.result()
        finally:
            thread.submit(snapshot.__exit__, None, None, None).result()
            thread.submit(store.close)


def read(store: Store, idents: list[str]) -> Read:
    """The responses of those comparisons."""
    members = Members.of(store.exported.members(idents), len(idents))
    return members, store.exported.responses(members.response)


def transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[Column]:
    """The columns of rows."""
    return list(zip(*rows, strict=True)) or [()] * width


def parsed(texts: Column) -> list[Any]:
    """The values of JSON texts, to be read only: equal texts may have one value.

    At once, since most are so short that a call for each would be most of the work; where few differ, each of them once.
    """
    distinct = set(texts)
    if 4 * len(distinct) > len(texts):
        found: list[Any] = json.loads(f"[{','.join(texts)}]")
        return found
    value = {text: json.loads(text) for text in distinct}
    return [value[text] for text in texts]


def starts_of(comparison: Column, count: int) -> list[int]:
    """Where the rows of each of `count` comparisons begin, and the end; `comparison`: each row's, ascending."""
    rows = Counter(comparison)
    return [0, *accumulate(rows[number] for number in range(count))]


def listed(starts: list[int], values: pa.Array) -> pa.ListArray:
    """`values` as one list for each comparison."""
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), values)


def struct(columns: Sequence[Column], of: pa.StructType) -> pa.StructArray:
    """The columns as the fields of a struct."""
    arrays = [pa.array(column, field.type) for column, field in zip(columns, of, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(of))


def response_struct(source: Source, members: Members, responses: list[Column]) -> pa.StructArray:
    """Every response, in the record's own order, and where it came from."""
    texts, policy, *sampling = responses
    name = {ident: policy.name for ident, policy in source.policies.items()}
    same_as: Column = [None] * len(policy)
    if any(members.shown):
        same_as = [
            number[item] if item else None
            for number, (start, end) in zip(members.numbers, pairwise(members.starts), strict=True)
            for item in members.shown[start:end]
        ]
    return struct([texts, [name[ident] for ident in policy], *sampling, same_as], RESPONSE)


def annotation_struct(source: Source, rankings: list[Column], members: Members) -> pa.StructArray:
    """Every ranking, its items as numbers of responses."""
    comparison, who, tiers, order, mode, strengths, flags, verdict, ratings, *rest = rankings
    reason, rewrite, rewrite_of, *times = rest
    number = [members.numbers[at] for at in comparison]
    marks, rated = parsed(flags), parsed(ratings)
    columns: list[Column] = [
        [source.called[ident] for ident in who],
        [source.annotators[ident].simulated for ident in who],
        members.tiers(comparison, parsed(tiers)),
        mode,
        parsed(strengths),
        [
            by_item(said, members.items(at), []) if said and said.keys() != {ALL_BAD} else []
            for at, said in zip(comparison, marks, strict=True)
        ],
        [ALL_BAD in said for said in marks],
        verdict,
        [by_item(said, members.items(at), None) if said else [] for at, said in zip(comparison, rated, strict=True)],
        reason,
        rewrite,
        [of[item] if item else None for of, item in zip(number, rewrite_of, strict=True)],
        [[of[item] for item in items] for of, items in zip(number, parsed(order), strict=True)],
        *times,
    ]
    return struct(columns, ANNOTATION)


def by_item(said: dict[str, Any], items: list[str], nothing: Any) -> list[Any]:
    """What is said of each item."""
    return [said.get(item, nothing) for item in items]


def ranked_sets(source: Source) -> Iterator[dict[str, Any]]:
    """The same, a dict a comparison."""
    for batch in ranked_batches(source):
        yield from batch.to_pylist()
