"""Files in and out: prompts and ranked sets as JSONL in; ranked sets and TRL's preference pairs out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from preferences.errors import BadRecord, RankloopError
from preferences.rankings import pair_shares
from preferences.records import (
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
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path} cannot be read as UTF-8 text ({error}); give another file.") from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            check(record)
        except json.JSONDecodeError as error:
            raise BadRecord(f"{path}, line {number}: not valid JSON ({error}); correct that line.") from error
        except ValueError as error:
            raise BadRecord(f"{path}, line {number}: {error}.") from error
        records.append(record)
    if not records:
        raise BadRecord(f"{path} has no records; give a file with one JSON object a line.")
    return records


def check_messages(messages: Any, last: str) -> None:
    """ValueError unless it is a conversation: optional system prompt, then user and assistant in turn, `last` at the end."""
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
    if not isinstance(record.get("tags", []), list):
        raise ValueError("'tags' must be a list")


def check_demonstration(record: Any) -> None:
    """ValueError unless it is {messages: [...], the last an assistant's}."""
    if not isinstance(record, dict):
        raise ValueError("a demonstration must be an object with 'messages'")
    check_messages(record.get("messages"), "assistant")


def check_ranked_set(record: Any) -> None:
    """ValueError unless it is {prompt, responses: [{text}], annotations: [{annotator, ranking: [[index]]}]}."""
    if not isinstance(record, dict):
        raise ValueError("a ranked set must be an object")
    check_messages(record.get("prompt"), "user")
    responses = record.get("responses")
    if not isinstance(responses, list) or len(responses) < 2:
        raise ValueError("'responses' must be a list of at least two {text}")
    if not all(isinstance(r, dict) and isinstance(r.get("text"), str) for r in responses):
        raise ValueError("each response needs a text")
    for annotation in record.get("annotations", []):
        placed = sorted(index for tier in annotation.get("ranking", []) for index in tier)
        if not isinstance(annotation.get("annotator"), str) or placed != list(range(len(responses))):
            raise ValueError("each annotation needs an annotator and a ranking that places every response once")


def import_prompts(store: Store, study: Study, path: Path, heldout: float = 0.1) -> list[Prompt]:
    """Import prompts into a study. Raises BadRecord; then nothing is stored."""
    records = read_jsonl(path, check_prompt)
    with store.write():
        prompts = store.prompts.add(records, heldout)
        store.studies.add_prompts(study, prompts)
    return prompts


def import_ranked_sets(store: Store, study: Study, path: Path, heldout: float = 0.1) -> int:
    """Import ranked sets with their annotators; importing a file twice equals importing it once. The number of new rankings.

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
        annotator = store.annotators.find(annotation["annotator"]) or store.annotators.add(
            annotation["annotator"], "annotator", ""
        )
        tiers = _shown_tiers([[responses[index].id for index in tier] for tier in annotation["ranking"]], comparison)
        added += store.rankings.add_imported(annotator, comparison, tiers)
    return added


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
    rankings: dict[str, list[Ranking]] = {}
    for ranking in store.rankings.current(study and study.id, split, simulated):
        rankings.setdefault(ranking.comparison, []).append(ranking)
    comparisons = store.comparisons.all(study and study.id, split)
    return [(comparison, rankings[comparison.id]) for comparison in comparisons if comparison.id in rankings]


def preference_pairs(
    store: Store, study: Study, split: str | None, simulated: bool = False
) -> Iterator[dict[str, Any]]:
    """TRL's conversational preference format, one record for every two responses that a majority put apart; ties are left out."""
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
    """Write an export whole or not at all; {"format", "out", "records", "split"}. Raises RankloopError if it would be empty."""
    temporary = out.with_name(f".{out.name}.{random_id()}")
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
