"""Files in and out: prompts and ranked sets as JSONL in; ranked sets and TRL's preference pairs out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from preferences.errors import BadRecord, RankloopError
from preferences.rankings import pair_shares
from preferences.records import (
    Annotator,
    Comparison,
    Message,
    Policy,
    Prompt,
    Ranking,
    Response,
    Study,
    Tiers,
    content_id,
    random_id,
)
from preferences.store import Store

MESSAGE_ROLES = ("system", "user", "assistant")


def read_jsonl(path: Path, check: Callable[[Any], None]) -> list[dict[str, Any]]:
    """The records of a JSON Lines file (blank lines skipped), each passed through `check`.

    Raises BadRecord, with the number of the line, for the first one that does not parse or that `check` refuses with a
    ValueError; and for a file without records.
    """
    try:
        # Not splitlines(): that also splits at U+2028 and U+0085, which may stand in a JSON string as they are.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path} cannot be read as UTF-8 text ({error}); give another file.") from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            check_text(record)
            check(record)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BadRecord(f"{path}, line {number}: not valid JSON ({error}); correct that line.") from error
        except ValueError as error:
            raise BadRecord(f"{path}, line {number}: {error}.") from error
        records.append(record)
    if not records:
        raise BadRecord(f"{path} has no records; give a file with one JSON object a line.")
    return records


def check_text(record: Any) -> None:
    """ValueError if a string holds half of a surrogate pair ("\\ud83d" alone), which UTF-8 cannot express."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text holds half of a surrogate pair, which is no character") from error


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
    """ValueError unless it is {prompt, responses: [{text}], annotations?: [{annotator, ranking: [[index]]}]}."""
    if not isinstance(record, dict):
        raise ValueError("a ranked set must be an object")
    check_messages(record.get("prompt"), "user")
    check_origin(record)
    responses = record.get("responses")
    if not isinstance(responses, list) or len(responses) < 2:
        raise ValueError("'responses' must be a list of at least two {text}")
    if not all(isinstance(r, dict) and isinstance(r.get("text"), str) for r in responses):
        raise ValueError("each response needs a text")
    annotations = record.get("annotations", [])
    if not isinstance(annotations, list):
        raise ValueError("'annotations' must be a list of {annotator, ranking}")
    for annotation in annotations:
        check_annotation(annotation, len(responses))


def check_annotation(annotation: Any, k: int) -> None:
    """ValueError unless it is {annotator, ranking, simulated?}, whose ranking places 0 .. k-1 once each."""
    if not isinstance(annotation, dict):
        raise ValueError("each annotation must be an object")
    name = annotation.get("annotator")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("each annotation needs the name of its annotator")
    if not isinstance(annotation.get("simulated", False), bool):
        raise ValueError("'simulated' must be true or false")
    ranking = annotation.get("ranking")
    if not isinstance(ranking, list) or not all(isinstance(tier, list) and tier for tier in ranking):
        raise ValueError("'ranking' must be a list of lists of response numbers, none of them empty")
    placed = [index for tier in ranking for index in tier]
    if not all(type(index) is int for index in placed) or sorted(placed) != list(range(k)):
        raise ValueError(f"'ranking' must place each response number from 0 to {k - 1} once")


def import_prompts(store: Store, study: Study, path: Path, heldout: float = 0.1) -> list[Prompt]:
    """Import prompts into a study. Raises BadRecord; then nothing is stored."""
    records = read_jsonl(path, check_prompt)
    with store.write():
        prompts = store.prompts.add(records, heldout)
        store.studies.add_prompts(study, prompts)
    return prompts


def import_ranked_sets(store: Store, study: Study, path: Path, heldout: float = 0.1) -> int:
    """Import ranked sets with their annotators; the number of new rankings, so that the same file again gives 0.

    Raises BadRecord; then nothing is stored.
    """
    records = read_jsonl(path, check_ranked_set)
    with store.write():
        policy = store.policies.add(Policy(content_id("policy", "imported"), "imported", "imported"))
        prompts = store.prompts.add([{**record, "messages": record["prompt"]} for record in records], heldout)
        store.studies.add_prompts(study, prompts)
        return sum(
            _import_ranked_set(store, study, policy, prompt, record)
            for prompt, record in zip(prompts, records, strict=True)
        )


def _import_ranked_set(store: Store, study: Study, policy: Policy, prompt: Prompt, record: dict[str, Any]) -> int:
    responses = [
        Response.make(prompt.id, policy.id, answer["text"], 0, index)
        for index, answer in enumerate(record["responses"])
    ]
    store.responses.add(responses)
    comparison = store.comparisons.add(study, prompt.id, responses, origin="imported")
    if comparison is None:
        return 0
    added = 0
    for annotation in record.get("annotations", []):
        annotator = _imported_annotator(store, annotation["annotator"], annotation.get("simulated", False))
        tiers = _shown_tiers([[responses[index].id for index in tier] for tier in annotation["ranking"]], comparison)
        added += store.rankings.add_imported(annotator, comparison, tiers)
    return added


def _imported_annotator(store: Store, name: str, simulated: bool) -> Annotator:
    """The account of that name; a new one cannot log in. Raises BadRecord rather than mix people and simulations."""
    account = store.annotators.find(name) or store.annotators.add(name, "annotator", "", simulated)
    if account.simulated != simulated:
        words = ("a person", "simulated")
        raise BadRecord(
            f"Annotator {name!r} is {words[simulated]} in the file and {words[account.simulated]} in the database; "
            "rename one of them."
        )
    return account


def _shown_tiers(tiers: Tiers, comparison: Comparison) -> Tiers:
    """The tiers over shown items: of equal texts the best-placed one counts."""
    seen: set[str] = set()
    shown = []
    for tier in tiers:
        kept = [item for item in dict.fromkeys(comparison.same[response] for response in tier) if item not in seen]
        seen.update(kept)
        if kept:
            shown.append(kept)
    return shown


def ranked_sets(store: Store, study: Study, split: str | None, simulated: bool = False) -> Iterator[dict[str, Any]]:
    """One record a ranked comparison, responses in the record's own order, with provenance, rankings and split."""
    policies = {policy.id: policy for policy in store.policies.all()}
    prompts = {prompt.id: prompt for prompt in store.prompts.all()}
    names = {annotator.id: annotator for annotator in store.annotators.all()}
    for comparison, rankings in grouped(store, study, split, simulated):
        prompt = prompts[comparison.prompt]
        responses = store.responses.get_many(comparison.same)
        index = {item: i for i, item in enumerate(comparison.items)}
        yield {
            "id": comparison.id,
            "split": prompt.split,
            "source": prompt.source,
            "prompt": prompt.messages,
            "responses": [
                {
                    "text": responses[item].text,
                    "samples": [
                        _sample(responses[other], policies) for other, same in comparison.same.items() if same == item
                    ],
                }
                for item in comparison.items
            ],
            "annotations": [
                {
                    "annotator": names[ranking.annotator].name,
                    "simulated": names[ranking.annotator].simulated,
                    "ranking": [[index[item] for item in tier] for tier in ranking.tiers],
                    "shown": [index[item] for item in ranking.order],
                    "active_ms": ranking.active_ms,
                    "created": ranking.created,
                }
                for ranking in rankings
            ],
        }


def _sample(response: Response, policies: dict[str, Policy]) -> dict[str, Any]:
    return {
        "policy": policies[response.policy].name,
        "seed": response.seed,
        "sample_index": response.sample_index,
        "temperature": response.temperature,
        "top_p": response.top_p,
        "max_new_tokens": response.max_new_tokens,
        "finish_reason": response.finish_reason,
    }


def grouped(
    store: Store, study: Study | None, split: str | None, simulated: bool
) -> list[tuple[Comparison, list[Ranking]]]:
    """Each ranked comparison with its current rankings, in the order of the comparisons."""
    ident = study.id if study else None
    rankings: dict[str, list[Ranking]] = {}
    for ranking in store.rankings.current(ident, split, simulated):
        rankings.setdefault(ranking.comparison, []).append(ranking)
    comparisons = store.comparisons.all(ident, split)
    return [(comparison, rankings[comparison.id]) for comparison in comparisons if comparison.id in rankings]


def preference_pairs(
    store: Store, study: Study, split: str | None, simulated: bool = False
) -> Iterator[dict[str, Any]]:
    """TRL's conversational preference format: a record for every two responses that a majority put apart, no ties."""
    prompts: dict[str, list[Message]] = {prompt.id: prompt.messages for prompt in store.prompts.all()}
    for comparison, rankings in grouped(store, study, split, simulated):
        responses = store.responses.get_many(comparison.items)
        for (a, b), share in pair_shares(ranking.tiers for ranking in rankings).items():
            if share == 0.5:
                continue
            chosen, rejected = (a, b) if share > 0.5 else (b, a)
            yield {
                "prompt": prompts[comparison.prompt],
                "chosen": [{"role": "assistant", "content": responses[chosen].text}],
                "rejected": [{"role": "assistant", "content": responses[rejected].text}],
            }


EXPORTS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "jsonl": ranked_sets,
    "trl-preference": preference_pairs,
}


def export(
    store: Store, study: Study, name: str, out: Path, split: str | None = "train", simulated: bool = False
) -> dict[str, Any]:
    """Write an export whole or not at all; {"format", "out", "records", "split"}.

    Raises RankloopError if it would be empty or cannot be written.
    """
    temporary = out.parent / f".{out.name}.{random_id()}"
    count = 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for count, record in enumerate(EXPORTS[name](store, study, split, simulated), start=1):  # noqa: B007
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if not count:
            hint = "" if simulated else " (rankings by simulated annotators need --include-simulated)"
            raise RankloopError(f"Study {study.name!r} has no ranking to export from split {split or 'all'}{hint}.")
        temporary.replace(out)
    except OSError as error:
        raise RankloopError(f"{out} cannot be written ({error}); give another --out.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return {"format": name, "out": str(out), "records": count, "split": split or "all"}
