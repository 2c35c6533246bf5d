"""The columns of each export as Arrow types, so that a Parquet file has the same ones whatever its rows hold."""

from typing import Any

import pyarrow as pa

from preferences.exchange.pictures import STRUCTURED

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
PARTS = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))
STRUCTURED_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", PARTS)]))
IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
INDICES = pa.list_(pa.int64())

RESPONSE = pa.struct(
    [
        ("text", pa.string()), ("model", pa.string()), ("seed", pa.int64()), ("sample_index", pa.int64()),
        ("temperature", pa.float64()), ("top_p", pa.float64()), ("max_new_tokens", pa.int64()),
        ("finish_reason", pa.string()), ("tokens", pa.int64()), ("template_hash", pa.string()), ("same_as", pa.int64()),
    ]
)  # fmt: skip
ANNOTATION = pa.struct(
    [
        ("annotator", pa.string()), ("simulated", pa.bool_()), ("ranking", pa.list_(INDICES)),
        ("mode", pa.string()), ("strengths", pa.list_(pa.float64())), ("flags", pa.list_(pa.list_(pa.string()))),
        ("all_bad", pa.bool_()), ("verdict", pa.string()), ("ratings", INDICES), ("reason", pa.string()),
        ("rewrite", pa.string()), ("rewrite_of", pa.int64()), ("shown", INDICES), ("active_ms", pa.int64()),
        ("created", pa.float64()),
    ]
)  # fmt: skip
SPLIT = ("split", pa.string())
ORIGIN = [("source", pa.string()), ("language", pa.string()), ("tags", pa.list_(pa.string()))]

COLUMNS: dict[str, list[tuple[str, Any]]] = {
    "rankings": [
        ("id", pa.string()), SPLIT, *ORIGIN, ("prompt", MESSAGES), ("responses", pa.list_(RESPONSE)),
        ("annotations", pa.list_(ANNOTATION)),
    ],
    "trl-preference": [
        ("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES), ("margin", pa.float64()),
        ("soft_label", pa.float64()), SPLIT,
    ],
    "trl-unpaired": [("prompt", MESSAGES), ("completion", MESSAGES), ("label", pa.bool_()), SPLIT],
    "sft": [("messages", MESSAGES), ("kind", pa.string()), SPLIT],
    "prompts": [("messages", MESSAGES), *ORIGIN, SPLIT],
}  # fmt: skip


def schema(name: str, without: tuple[str, ...] = (), images: bool = False) -> pa.Schema:
    """The schema of an export, less some columns; with `images` (see `exchange.pictures`), as `datasets` knows them."""
    columns = [column for column in COLUMNS[name] if column[0] not in without]
    if not images:
        return pa.schema(columns)
    from datasets import Features
    from datasets import Image as ImageFeature
    from datasets import List as ListFeature

    if name in STRUCTURED:
        columns = [(column, STRUCTURED_MESSAGES if kind == MESSAGES else kind) for column, kind in columns]
    made = pa.schema([*columns, ("images", IMAGES)])
    features = Features({**Features.from_arrow_schema(made), "images": ListFeature(ImageFeature())})
    return made.with_metadata(features.arrow_schema.metadata)
