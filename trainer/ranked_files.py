"""Ranked comparisons straight out of a file of the record format, without a database."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from preferences.exchange.checks import check_ranked_set
from preferences.exchange.importing import details_of, shown_tiers
from preferences.exchange.pairwise import as_rankings
from preferences.exchange.reading import converted
from preferences.images import ImageFiles
from preferences.rankings import vote_shares, votes_of
from preferences.records import Comparison, Ranking, content_id
from trainer.batches import Example
from trainer.models import Base
from trainer.ranked import Ranked, decided, judgements
from trainer.scoring import response_example


def ranked_file(path: Path, base: Base, simulated: bool) -> list[Ranked]:
    """The comparisons of a file that somebody ranked, as an import would store them. Raises BadRecord.

    Labels of pairs that no ranking can express are comparisons of two. An annotator's last ranking of a record counts.
    """

    pictures = ImageFiles(path if path.is_dir() else path.parent)

    def convert(value: Any) -> list[dict[str, Any]]:
        record = pictures.place(value)
        pictures.take()  # of a picture, a prompt has the name alone
        check_ranked_set(record)
        return as_rankings(record)[0]

    example = cache(lambda prompt, text, ended: response_example(base, ids_of(prompt), text, ended))
    ids_of = cache(lambda prompt: base.prompt_ids(json.loads(prompt)))
    found = (of_record(record, example, simulated) for _, records, _ in converted(path, convert) for record in records)
    return [one for one in found if one]


def of_record(record: dict[str, Any], example: Callable[[str, str, bool], Example], simulated: bool) -> Ranked | None:
    """One ranked set; None if nobody who counts ranked it. `example`: of a prompt as JSON, a text, and whether it ended."""
    annotations = [a for a in record.get("annotations") or [] if not a.get("verdict")]
    said = [a for a in annotations if simulated or not a.get("simulated")]
    if not said:
        return None
    responses, prompt = record["responses"], record["prompt"]
    shown = [str(i if response.get("same_as") is None else response["same_as"]) for i, response in enumerate(responses)]
    same = {str(i): item for i, item in enumerate(shown)}
    items = list(dict.fromkeys(shown))
    ident = content_id("prompt", prompt)
    comparison = Comparison("", "", ident, items, same)
    rankings = list({a["annotator"]: ranking_of(a, comparison, shown) for a in said}.values())
    robots = {a["annotator"] for a in said if a.get("simulated")}
    kept = [responses[int(item)] for item in items]
    messages = json.dumps(prompt)
    examples = [example(messages, r["text"], r.get("finish_reason", "stop") == "stop") for r in kept]
    shares = vote_shares(map(votes_of, rankings))
    return Ranked(
        ident, examples, [r["text"] for r in kept], *decided(items, shares), **judgements(items, rankings, {}, robots),
        source=record.get("source") or "", language=record.get("language") or "", messages=prompt,
        ident=record.get("id") or "",
    )  # fmt: skip


def ranking_of(annotation: dict[str, Any], comparison: Comparison, shown: list[str]) -> Ranking:
    """An annotation as a ranking of the shown items."""
    tiers = shown_tiers([[str(i) for i in tier] for tier in annotation["ranking"]], comparison)
    details = {name: value for name, value in details_of(annotation, shown).items() if name != "order"}
    return Ranking("", "", annotation["annotator"], "ranking", tiers, [], "", **details)
