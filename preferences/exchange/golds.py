"""Gold from a file: comparisons with a known good answer, as JSON Lines.

One record a line: {"prompt": [{"role", "content"}], "responses": [{"text"}], "ranking": [[best], [next], ...],
"explanation": "..."}; numbers in `ranking` index `responses`.
"""

from pathlib import Path
from typing import Any

from preferences.exchange.checks import MOST_RESPONSES, check_messages, check_ranking
from preferences.exchange.importing import shown_tiers
from preferences.exchange.reading import read_jsonl
from preferences.records import Policy, Response, Study, content_id
from preferences.store import Store

ORIGIN = "gold"


def check_gold(record: Any) -> None:
    """ValueError unless it is a gold record whose texts all differ."""
    if not isinstance(record, dict):
        raise ValueError("a gold record must be an object")
    check_messages(record.get("prompt"), "user")
    responses = record.get("responses")
    if not isinstance(responses, list) or not 2 <= len(responses) <= MOST_RESPONSES:
        raise ValueError(f"'responses' must be a list of 2 to {MOST_RESPONSES} {{text}}")
    texts = [response.get("text") if isinstance(response, dict) else None for response in responses]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("each response needs a text")
    if len(set(texts)) < len(texts):
        raise ValueError("two responses have the same text")
    check_ranking(record.get("ranking"), len(texts))
    if not isinstance(record.get("explanation", ""), str):
        raise ValueError("'explanation' must be a text")


def import_golds(store: Store, study: Study, path: Path) -> int:
    """Make the file's comparisons gold in the study; how many. Raises BadRecord, NameTaken; then nothing is stored."""
    records = read_jsonl(path, check_gold)
    with store.write():
        policy = store.policies.add(Policy(content_id("policy", ORIGIN), ORIGIN, "imported"))
        prompts = store.prompts.add([{**record, "messages": record["prompt"], "source": ORIGIN} for record in records])
        for prompt, record in zip(prompts, records, strict=True):
            responses = [
                Response.make(prompt.id, policy.id, response["text"], 0, index)
                for index, response in enumerate(record["responses"])
            ]
            store.responses.add(responses)
            comparison = store.comparisons.add(study, prompt.id, responses, origin=ORIGIN)
            assert comparison is not None
            tiers = shown_tiers([[responses[index].id for index in tier] for tier in record["ranking"]], comparison)
            store.golds.add(comparison, tiers, record.get("explanation", ""))
    return len(records)
