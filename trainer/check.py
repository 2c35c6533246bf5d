"""`trainer check`: what a policy that has learned to please its reward would do, queued for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preferences.errors import RankloopError
from preferences.oddities import refusals, repetition
from preferences.records import Policy, Response, Study
from preferences.store import Store
from trainer.models import Base
from trainer.policies import sampling_policies
from trainer.recheck import checked_reward
from trainer.roles import Roles
from trainer.scoring import Scorer
from trainer.stage import Stage, open_study

KINDS = ("highest reward", "largest gain", "longest", "most repetitive", "most refusals")
NEWEST = 1000  # answers of the policy that are looked through


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Stage):
    """Score a policy's stored answers, and those that people ranked; queue its oddest answers for people to pass or fail."""

    reward: Path
    """The reward model: the 'adapter' folder of a reward run."""
    policy: str | None = None
    """Name of the policy; default the study's newest sampling policy."""
    against: str | None = None
    """Name of the policy whose answers to the same prompts the gain is over; default the one it was trained from."""
    each: int = 10
    """Answers of each kind that are queued."""
    token_budget: int = 4096
    """Tokens scored at once."""

    def __post_init__(self) -> None:
        if self.each < 1:
            raise RankloopError(f"each must be at least 1, not {self.each}.")


def check(config: Check, store: Store, base: Base) -> dict[str, Any]:
    """{"policy", "against", "scored", "queued": {kind: how many are new}}."""
    study = open_study(store, config.study)
    policy = store.policies.get(config.policy) if config.policy else sampling_policies(store, study, base)[-1]
    against = store.policies.get(config.against) if config.against else parent_of(store, policy)
    answers = store.responses.newest(study, policy, NEWEST)
    if not answers:
        raise RankloopError(
            f"Policy {policy.name!r} has no stored answer to a prompt of study {study.name!r}; run `trainer sample`."
        )
    before = first_by_prompt(store.responses.newest(study, against, 10 * NEWEST)) if against else {}
    model = checked_reward(Roles(base), config.reward, config.token_budget)
    reward = str(config.reward.resolve())
    wanted = {one.id: one for one in (*answers, *before.values(), *ranked_heldout(store, study))}
    scored = score(store, model, reward, list(wanted.values()), config.token_budget)
    scores = store.scores.of(reward, wanted)
    queued = {
        kind: store.spot_checks.add(study, kind, found[: config.each])
        for kind, found in oddest(answers, before, scores).items()
    }
    return {"policy": policy.name, "against": against.name if against else None, "scored": scored, "queued": queued}


def parent_of(store: Store, policy: Policy) -> Policy | None:
    """The policy it was trained from, if that is known."""
    return store.policies.get(policy.parent) if policy.parent else None


def first_by_prompt(answers: Sequence[Response]) -> dict[str, Response]:
    """One answer to each prompt."""
    found: dict[str, Response] = {}
    for one in answers:
        found.setdefault(one.prompt, one)
    return found


def ranked_heldout(store: Store, study: Study) -> list[Response]:
    """The answers to held-out prompts that people ranked: what the live accuracy is of."""
    idents = store.comparisons.ranked_ids(study, "heldout", True)
    items = [item for comparison in store.comparisons.get_many(idents) for item in comparison.items]
    return list(store.responses.get_many(items).values())


def score(store: Store, model: Scorer, reward: str, responses: Sequence[Response], token_budget: int) -> int:
    """Keep the scores of those that have none yet; how many these were."""
    known = store.scores.of(reward, [one.id for one in responses])
    new = [one for one in responses if one.id not in known]
    if new:
        prompts = store.prompts.get_many({one.prompt for one in new})
        found = model.score_responses(new, list(prompts.values()), token_budget)
        store.scores.add(reward, dict(zip((one.id for one in new), found, strict=True)))
    return len(new)


def oddest(
    answers: Sequence[Response], before: dict[str, Response], scores: dict[str, float]
) -> dict[str, list[tuple[str, float, str | None]]]:
    """Kind -> (answer, value, the answer that it is held against), the oddest first; of equal texts the first alone."""
    texts: dict[tuple[str, str], Response] = {}
    for one in answers:
        texts.setdefault((one.prompt, one.text), one)
    unique = list(texts.values())
    values: dict[str, dict[str, float]] = {
        "highest reward": {one.id: scores[one.id] for one in unique},
        "largest gain": {
            one.id: scores[one.id] - scores[before[one.prompt].id] for one in unique if one.prompt in before
        },
        "longest": {one.id: float(len(one.text)) for one in unique},
        "most repetitive": {one.id: repetition(one.text) for one in unique if repetition(one.text)},
        "most refusals": {one.id: float(refusals(one.text)) for one in unique if refusals(one.text)},
    }
    prompt = {one.id: one.prompt for one in unique}
    return {
        kind: [
            (ident, value, before[prompt[ident]].id if prompt[ident] in before else None)
            for ident, value in sorted(of_kind.items(), key=lambda item: -item[1])
        ]
        for kind, of_kind in values.items()
    }
