"""Answers of several policies, and of people, mixed in one queue: nobody who ranks them is told who wrote which."""

from collections.abc import Sequence
from pathlib import Path

from preferences.errors import RankloopError
from preferences.exchange.checks import check_demonstration
from preferences.exchange.reading import read_jsonl
from preferences.records import EQUAL, HUMAN, Policy, Prompt, Response, Study, content_id
from preferences.store import Store
from preferences.tables.prompts import messages_of

BLIND = "blind"  # the origin of such a comparison


def dealt(answers: Sequence[Sequence[Response]], k: int, turn: int) -> list[Response]:
    """K of the answers, in turns: a list of one policy's answers to the prompt each; a policy without one is left out.

    `turn`: the number of the prompt. The policy that begins moves on by one at each, so that none has more places than
    another, and if there are more policies than places each meets each.
    """
    having = [list(own) for own in answers if own]
    order = [having[(turn + i) % len(having)] for i in range(len(having))]
    taken = [own[round_] for round_ in range(k) for own in order if round_ < len(own)]
    return taken[:k]


def queue_blind(
    store: Store, study: Study, prompts: Sequence[Prompt], answers: Sequence[Sequence[Sequence[Response]]], k: int
) -> dict[str, int]:
    """Queue a comparison a prompt; {"queued", "equal"}. `answers`: by policy, by prompt; `equal`: prompts to which all gave
    one text, which counts as a tie without asking anybody.
    """
    queued = equal = 0
    with store.write():
        for turn, prompt in enumerate(prompts):
            mixed = dealt([of_policy[turn] for of_policy in answers], k, turn)
            if len({response.policy for response in mixed}) < 2:
                continue
            alike = len({response.text for response in mixed}) == 1
            store.comparisons.add(study, prompt.id, mixed, origin=EQUAL if alike else BLIND)
            queued, equal = queued + (not alike), equal + alike
    return {"queued": queued, "equal": equal}


def human_answers(store: Store, file: Path, prompts: Sequence[Prompt]) -> tuple[Policy, list[list[Response]]]:
    """The policy "human" and its stored answers to each prompt, out of demonstrations as `trainer sft` reads them.

    Raises BadRecord, or RankloopError if none of them answers one of the prompts.
    """
    written: dict[str, str] = {}
    for record in read_jsonl(file, check_demonstration):
        before = messages_of({"messages": record["messages"][:-1]})
        written[content_id("prompt", before)] = record["messages"][-1]["content"]
    if not any(prompt.id in written for prompt in prompts):
        raise RankloopError(
            f"No demonstration in {file} answers one of these {len(prompts)} held-out prompts; write some, or leave out "
            "--human."
        )
    policy = store.policies.find(HUMAN) or store.policies.add(Policy.of_people())
    found = [
        [Response.make(prompt.id, policy.id, written[prompt.id], 0, 0)] if prompt.id in written else []
        for prompt in prompts
    ]
    store.responses.add(response for own in found for response in own)
    return policy, found
