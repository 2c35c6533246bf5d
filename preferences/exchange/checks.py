"""What a record must look like. Each check raises a ValueError that says what is wrong with it."""

from collections.abc import Callable
from typing import Any, get_args

from preferences.answers import RATINGS
from preferences.records import SPLITS, Mode, Verdict

MESSAGE_ROLES = ("system", "user", "assistant")
LARGEST = 2**63 - 1  # an SQLite integer
LATEST = 2.5e11  # seconds since 1970, in the year 9892: no calendar goes much further
MOST_RESPONSES = 9  # what the ranking board takes


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST  # which what is no number is not


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= LATEST


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


Kinds = dict[str, tuple[Callable[[Any], bool], str]]

RESPONSE_FIELDS: Kinds = {
    "model": (lambda value: _is_text(value) and bool(value.strip()), "a text that is not empty"),
    "seed": (lambda value: type(value) is int and abs(value) <= LARGEST, "a whole number"),
    "sample_index": (_is_count, "a whole number from 0"),
    "temperature": (_is_number, "a number"),
    "top_p": (_is_number, "a number"),
    "max_new_tokens": (_is_count, "a whole number from 0"),
    "finish_reason": (lambda value: value in ("stop", "length"), '"stop" or "length"'),
    "tokens": (_is_count, "a whole number from 0"),
    "template_hash": (_is_text, "a text"),
}

ANNOTATION_FIELDS: Kinds = {
    "simulated": (lambda value: isinstance(value, bool), "true or false"),
    "strengths": (lambda value: isinstance(value, list) and all(map(_is_number, value)), "a list of numbers"),
    "mode": (lambda value: value in get_args(Mode), f"one of {', '.join(get_args(Mode))}"),
    "verdict": (lambda value: value in get_args(Verdict), '"cannot_rank" or nothing'),
    "all_bad": (lambda value: isinstance(value, bool), "true or false"),
    "reason": (_is_text, "a text"),
    "rewrite": (_is_text, "a text"),
    "active_ms": (_is_count, "a whole number from 0"),
    "created": (_is_time, "a time in seconds since 1970"),
}


def check_fields(record: dict[str, Any], kinds: Kinds) -> None:
    """ValueError unless each of those fields is of its kind, where it is there at all (null counts as not there)."""
    for name, (fits, words) in kinds.items():
        if record.get(name) is not None and not fits(record[name]):
            raise ValueError(f"{name!r} must be {words}")


def check_messages(messages: Any, last: str) -> None:
    """ValueError unless it is [system,] user, assistant, user ... and ends with `last`'s turn."""
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' must be a list of {role, content}")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in MESSAGE_ROLES:
            raise ValueError("each message needs a role out of system, user, assistant")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise ValueError("each message needs a content that is not empty")
    turns = [message["role"] for message in messages]
    if turns[0] == "system":
        turns = turns[1:]
    if turns != [("user", "assistant")[i % 2] for i in range(len(turns))] or not turns or turns[-1] != last:
        raise ValueError(f"user and assistant must take turns, the first is the user's and the last the {last}'s")


def check_prompt(record: Any) -> None:
    """ValueError unless it is {messages: [...], the last a user's}."""
    if not isinstance(record, dict):
        raise ValueError("a prompt must be an object with 'messages'")
    check_messages(record.get("messages"), "user")
    check_origin(record)


def check_origin(record: dict[str, Any]) -> None:
    """ValueError unless source and language are texts and tags a list of texts, where given."""
    for name in ("source", "language"):
        if not isinstance(record.get(name, ""), str):
            raise ValueError(f"{name!r} must be a text")
    tags = record.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("'tags' must be a list of texts")


def check_demonstration(record: Any) -> None:
    """ValueError unless it is {messages: [...], the last an assistant's}."""
    if not isinstance(record, dict):
        raise ValueError("a demonstration must be an object with 'messages'")
    check_messages(record.get("messages"), "assistant")


def check_ranked_set(record: Any) -> None:
    """ValueError unless it is {prompt, responses: [{text, ...}], annotations?: [...], pairwise?: [[i, j, label]]}."""
    if not isinstance(record, dict):
        raise ValueError("a ranked set must be an object")
    check_messages(record.get("prompt"), "user")
    check_origin(record)
    check_fields(record, {"id": (_is_text, "a text"), "split": (lambda v: v in SPLITS, '"train" or "heldout"')})
    responses = record.get("responses")
    if not isinstance(responses, list) or not 2 <= len(responses) <= MOST_RESPONSES:
        raise ValueError(f"'responses' must be a list of 2 to {MOST_RESPONSES} {{text}}")
    for number, response in enumerate(responses):
        check_response(response, number, responses)
    annotations = record.get("annotations", [])
    if not isinstance(annotations, list):
        raise ValueError("'annotations' must be a list of {annotator, ranking}")
    if record.get("pairwise") is not None:
        check_pairwise(record["pairwise"], len(responses))
        if len(annotations) > 1:
            raise ValueError("'pairwise' beside several annotations does not say whose it is; put it into one of them")
    for annotation in annotations:
        check_annotation(annotation, len(responses), record.get("pairwise") is not None)


def check_response(response: Any, number: int, responses: list[Any]) -> None:
    """ValueError unless it is {text, model?, ...}; `same_as`: the number of an equal text that is shown for it."""
    if not isinstance(response, dict) or not _is_text(response.get("text")):
        raise ValueError(f"response {number} needs a text")
    check_fields(response, RESPONSE_FIELDS)
    same = response.get("same_as")
    if same is None:
        return
    if type(same) is not int or not 0 <= same < len(responses) or not isinstance(responses[same], dict):
        raise ValueError("'same_as' must be the number of a response")
    if responses[same].get("text") != response["text"] or responses[same].get("same_as") is not None:
        raise ValueError("'same_as' must name a response of equal text that is shown itself")


def check_annotation(annotation: Any, k: int, has_pairs: bool = False) -> None:
    """ValueError unless it is {annotator, ranking or pairwise or verdict, ...}; it ranks responses 0 .. k-1."""
    if not isinstance(annotation, dict):
        raise ValueError("each annotation must be an object")
    name = annotation.get("annotator")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("each annotation needs the name of its annotator")
    check_fields(annotation, ANNOTATION_FIELDS)
    if annotation.get("pairwise") is not None:
        check_pairwise(annotation["pairwise"], k)
        has_pairs = True
    if annotation.get("verdict"):
        if annotation.get("ranking") or has_pairs:
            raise ValueError("an annotation that says 'cannot_rank' has no ranking")
    elif annotation.get("ranking") is not None or not has_pairs:
        check_ranking(annotation.get("ranking"), k)
    if annotation.get("shown") is not None and not is_part(annotation["shown"], k):
        raise ValueError(f"'shown' must be a list of different response numbers from 0 to {k - 1}")
    if annotation.get("rewrite_of") is not None and not is_part([annotation["rewrite_of"]], k):
        raise ValueError(f"'rewrite_of' must be a response number from 0 to {k - 1}")
    check_flags(annotation.get("flags"), k)
    check_ratings(annotation.get("ratings"), k)


def check_ranking(ranking: Any, k: int) -> None:
    """ValueError unless it is a list of tiers that place each of 0 .. k-1 once."""
    if not isinstance(ranking, list) or not all(isinstance(tier, list) and tier for tier in ranking):
        raise ValueError("'ranking' must be a list of lists of response numbers, none of them empty")
    placed = [index for tier in ranking for index in tier]
    if not is_part(placed, k) or len(placed) != k:
        raise ValueError(f"'ranking' must place each response number from 0 to {k - 1} once")


def is_part(numbers: Any, k: int) -> bool:
    """Whether it is a list of different numbers out of 0 .. k-1."""
    return (
        isinstance(numbers, list)
        and all(type(number) is int and 0 <= number < k for number in numbers)
        and len(set(numbers)) == len(numbers)
    )


def check_flags(flags: Any, k: int) -> None:
    """ValueError unless it is empty or a list of k lists of texts: the flags of each response."""
    if not flags:
        return
    if not isinstance(flags, list) or len(flags) != k:
        raise ValueError(f"'flags' must be a list of {k} lists, one for each response")
    if not all(isinstance(marks, list) and all(_is_text(mark) for mark in marks) for marks in flags):
        raise ValueError("each response's flags must be a list of texts")


def check_ratings(ratings: Any, k: int) -> None:
    """ValueError unless it is empty or a list of k numbers from 1 to 7, null for none."""
    if not ratings:
        return
    if not isinstance(ratings, list) or len(ratings) != k:
        raise ValueError(f"'ratings' must be a list of {k} numbers, one for each response")
    if not all(rating is None or (type(rating) is int and rating in RATINGS) for rating in ratings):
        raise ValueError("each rating must be a whole number from 1 to 7, or null")


def check_pairwise(labels: Any, k: int) -> None:
    """ValueError unless it is [[i, j, label], ...]; label 1: i is better, 2: j is better, 0: a tie."""
    if not isinstance(labels, list) or not labels:
        raise ValueError("'pairwise' must be a list of [i, j, label]")
    said: dict[tuple[int, int], int] = {}
    for entry in labels:
        if not isinstance(entry, list) or len(entry) != 3 or not is_part(entry[:2], k):
            raise ValueError(f"each pair must be [i, j, label] with two different response numbers from 0 to {k - 1}")
        i, j, label = entry
        if type(label) is not int or label not in (0, 1, 2):
            raise ValueError(
                "the label of a pair must be 1 (the first is better), 2 (the second is better) or 0 (a tie)"
            )
        key, value = ((i, j), label) if i < j else ((j, i), (0, 2, 1)[label])
        if said.setdefault(key, value) != value:
            raise ValueError(f"the pair of responses {key[0]} and {key[1]} has two different labels")
