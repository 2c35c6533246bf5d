"""Label Studio's JSON export: tasks with `data` and `annotations`, of a `Ranker` over a `List` or of `Pairwise`."""

from typing import Any

from preferences.exchange.formats.common import ANNOTATOR, RankedSet, a_list, a_text, an_object, blind, user

PROMPTS = ("prompt", "instruction", "question", "input", "messages", "dialogue", "text")
PAIRS = (("answer1", "answer2"), ("response1", "response2"), ("text1", "text2"), ("left", "right"), ("a", "b"))
SIDES = {"left": [[0], [1]], "right": [[1], [0]], "equal": [[0, 1]], "tie": [[0, 1]]}


def sets(record: Any) -> list[RankedSet]:
    """One set for each task that was ranked; a task without a usable annotation gives none.

    `Ranker` without buckets is a ranking; with buckets each bucket is a tie, in the order of the export. A `Pairwise`
    result is a ranking of two.
    """
    record = an_object(record)
    data = an_object(record.get("data"))
    found = [
        (annotator(annotation), result)
        for annotation in a_list(record.get("annotations", record.get("completions", [])), "annotations")
        if not annotation.get("was_cancelled")
        for result in a_list(annotation.get("result"), "result")
        if result.get("type") in ("ranker", "pairwise")
    ]
    if not found:
        return []
    items = pair_items(data) if found[0][1]["type"] == "pairwise" else list_items(data)
    index = {item["id"]: i for i, item in enumerate(items)}
    annotations = [{"annotator": who, "ranking": ranking(result, index)} for who, result in found]
    answers = [{"text": item["text"], "model": item.get("model")} for item in items]
    more = {"id": str(record["id"])} if record.get("id") is not None else {}
    return [blind(prompt(data), answers, annotations, **more)]


def annotator(annotation: dict[str, Any]) -> str:
    """Their e-mail address, else their number."""
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    return str(who) if who is not None else ANNOTATOR


def ranking(result: dict[str, Any], index: dict[str, int]) -> list[list[int]]:
    """A result as tiers of item numbers. ValueError unless it places each item once."""
    value = an_object(result.get("value"))
    if result["type"] == "pairwise":
        side = value.get("selected")
        if side not in SIDES:
            raise ValueError(f"'selected' must be one of {', '.join(SIDES)}")
        return SIDES[side]
    ranked = value.get("ranker")
    if isinstance(ranked, dict):
        buckets = [bucket for bucket in ranked.values() if bucket]
        tiers = [[item] for item in buckets[0]] if len(ranked) == 1 and buckets else buckets
    else:
        tiers = [[item] for item in a_list(ranked, "ranker")]
    placed = [str(item) for tier in tiers for item in tier]
    if sorted(placed) != sorted(index):
        raise ValueError("'ranker' does not place each item of the list once")
    return [[index[str(item)] for item in tier] for tier in tiers]


def list_items(data: dict[str, Any]) -> list[dict[str, Any]]:
    """[{id, text, model?}] out of the one list of objects with ids among the task's data."""
    lists = [
        value
        for value in data.values()
        if isinstance(value, list) and value and all(isinstance(item, dict) and "id" in item for item in value)
    ]
    if len(lists) != 1:
        raise ValueError("the task's data must hold one list of items with an 'id'")
    return [
        {"id": str(item["id"]), "text": a_text(item.get("body", item.get("text", item.get("html"))), "body"),
         "model": item.get("model")}
        for item in lists[0]
    ]  # fmt: skip


def pair_items(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The two texts of a pairwise task."""
    for names in PAIRS:
        if all(name in data for name in names):
            return [{"id": name, "text": a_text(data[name], name)} for name in names]
    raise ValueError(f"the task's data must hold two answers, named like {' and '.join(PAIRS[0])}")


def prompt(data: dict[str, Any]) -> Any:
    """The prompt: a text, or messages."""
    name = next((name for name in PROMPTS if name in data), None)
    if name is None:
        raise ValueError(f"the task's data hold no prompt ({', '.join(PROMPTS)})")
    return data[name] if isinstance(data[name], list) else user(a_text(data[name], name))
