"""The gates of a study's rounds, as sentences: why the next step is not taken, or None if it may be. Pure.

A round is sample -> rank -> reward -> PPO -> promote. Before each of the last three there is a gate; 0 opens it for good.
"""

from preferences.intervals import Statistic
from preferences.plan import Plan


def gates_of(plan: Plan) -> list[str]:
    """What the gates that are not open ask for, in words."""
    asked = {
        f"{plan.min_rankings} new rankings before a reward model": plan.min_rankings,
        f"{plan.min_accuracy:.0%} held-out accuracy before PPO": plan.min_accuracy,
        f"a blind win rate above {plan.min_win_rate:.0%}, with its whole interval, before a promotion": plan.min_win_rate,
    }
    return [words for words, wanted in asked.items() if wanted]


def rankings_gate(new: int, wanted: int, study: str, first: bool) -> str | None:
    """Whether there are enough rankings for another reward model. `new`: since the last one; `first`: there is none yet."""
    if new >= wanted:
        return None
    since = "" if first else " since its last reward model"
    more = f"rank {wanted - new} more"
    return f"Study {study!r} has {new} rankings{since}, and its gate asks for {wanted} (min_rankings); {more}."


def accuracy_gate(found: Statistic | None, wanted: float, study: str) -> str | None:
    """Whether PPO may be trained on a reward model. `found`: its held-out accuracy, None if there was nothing to judge by."""
    if not wanted:
        return None
    asked = f"the gate of study {study!r} asks for {wanted:.0%} before PPO (min_accuracy)"
    if found is None or found.get("value") is None:
        return (
            f"Nobody ranked answers to held-out prompts, so the reward model's accuracy is unknown, and {asked}; rank some "
            "and train it again."
        )
    if found["value"] >= wanted:
        return None
    return (
        f"The reward model orders {found['value']:.1%} of the held-out pairs like the rankings, and {asked}; rank more and "
        "train it again."
    )


def win_gate(found: Statistic | None, wanted: float, study: str, policy: str, against: str) -> str | None:
    """Whether a policy may be promoted. `found`: its blind win rate `against` the reference, None if they never met."""
    if not wanted:
        return None
    asked = f"study {study!r} promotes what wins more than {wanted:.0%} with its whole interval (min_win_rate)"
    if found is None or found.get("value") is None:
        return (
            f"Nobody has ranked answers of {policy} and {against} blind beside each other, and {asked}; queue some with "
            "`trainer evaluate policy --queue` or on the Training page."
        )
    if found["low"] > wanted:
        return None
    return (
        f"{policy} wins {found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}] of its blind comparisons with "
        f"{against}, and {asked}; rank more of them, or train on."
    )
