"""How a policy fares blind against another one, in words: what `preferences.blind` says of it."""

from typing import Any

from labeler.figures import interval, value
from preferences.blind import blind
from preferences.errors import RankloopError
from preferences.intervals import Statistic
from preferences.records import Policy, Study
from preferences.store import Store

COLUMNS = [
    "Policy", "Wins", "95% interval", "At equal length", "Decision", "However often one looks", "Labels to go, looking once",
    "Prompts", "Labels",
]  # fmt: skip


def evidence_json(store: Store, study: Study, policy: Policy) -> dict[str, Any]:
    """{"said", "facts": [[name, words], ...]}: the policy against the SFT policy that it comes from (one that was not trained
    from another: against the study's); no facts without rankings."""
    anchor = store.policies.anchor(policy)
    try:
        found = blind(store, study, None if anchor == policy else anchor.name)
    except RankloopError:  # nothing was ranked blind, or no answer of the anchor
        found = {"against": anchor.name, "policies": {}}
    against = found["against"]
    if policy.name in found["policies"]:
        one = found["policies"][policy.name]
        facts = zip(COLUMNS, row(policy.name, one), strict=True)
        return {"said": sentence(policy.name, one, against), "facts": [list(fact) for fact in facts][1:]}
    if against == policy.name:
        return {"said": f"{policy.name} is what other policies are held against.", "facts": []}
    said = f"No answer of {policy.name} to a held-out prompt was ranked beside one of {against}; launch a blind evaluation."
    return {"said": said, "facts": []}


def row(name: str, one: dict[str, Any]) -> list[str]:
    """A line of the table."""
    test = one["sequential"]
    return [
        name, value(one["win_rate"]), interval(one["win_rate"]), both(one["at_equal_length"]["win_rate"]), test["decision"],
        interval(test), needed(one["labels_needed"]), str(one["prompts"]), str(one["labels"]),
    ]  # fmt: skip


def both(found: Statistic) -> str:
    """The number and its interval in one cell."""
    return value(found) if "undefined" in found else f"{value(found)} ({interval(found)})"


def needed(found: Statistic) -> str:
    """How many labels are still needed, in a cell."""
    if "undefined" in found:
        return value(found)
    return "none" if not found["value"] else f"about {found['value']} (at best {found['low']})"


def sentence(name: str, one: dict[str, Any], against: str) -> str:
    """The decision in words."""
    test, more = one["sequential"], one["sequential"].get("labels_needed")
    if test["decision"] != "open":
        return f"{name} is {test['decision']} than {against}: decided after {test['decided_at']} prompts."
    wait = (
        f"about {more} more labels would decide it" if more else "nobody can say how many more labels would decide it"
    )
    return f"Whether {name} is better than {against} is open; {wait}."
