"""Whether a study's gates let its round go on; each check raises GateClosed with the reason."""

from preferences.blind import blind
from preferences.errors import RankloopError
from preferences.gates import accuracy_gate, rankings_gate, win_gate
from preferences.intervals import Statistic
from preferences.plan import Plan
from preferences.records import Policy, Study
from preferences.store import Store


class GateClosed(RankloopError):
    """What the study's gates ask for before the next step of a round is not there; the message says what."""


def check_rankings(store: Store, study: Study, simulated: bool = False) -> None:
    """Before a reward model is trained: enough new rankings. Raises GateClosed."""
    wanted = Plan.of(study.plan).min_rankings
    if wanted:
        last = last_reward(store, study)
        rankings = store.rankings.current(study.id, simulated=simulated)
        new = sum(last is None or ranking.created > last for ranking in rankings)
        demand(rankings_gate(new, wanted, study.name, last is None))


def check_accuracy(study: Study, found: Statistic | None) -> None:
    """Before PPO on a reward model with that held-out accuracy. Raises GateClosed."""
    demand(accuracy_gate(found, Plan.of(study.plan).min_accuracy, study.name))


def check_promotes(study: Study) -> None:
    """Before PPO whose policy is to answer at once: it cannot have won by then. Raises GateClosed."""
    if Plan.of(study.plan).min_win_rate:
        demand(
            f"Study {study.name!r} promotes only what has won blind (min_win_rate), so a policy cannot answer as soon as it "
            "is trained; give --no-sample-next and promote it on the Training page."
        )


def check_wins(store: Store, study: Study, policy: Policy, simulated: bool = False) -> None:
    """Before a PPO policy is promoted: its blind win rate against the SFT policy that it comes from. Raises GateClosed."""
    wanted = Plan.of(study.plan).min_win_rate
    if wanted and policy.kind == "ppo":
        against = store.policies.anchor(policy)
        found = blind_win_rate(store, study, policy, against, simulated)
        demand(win_gate(found, wanted, study.name, policy.name, against.name))


def choose_policies(store: Store, study: Study, policies: list[Policy], actor: str = "") -> None:
    """From now on they answer the study's prompts; of those that did not before, each has won. Raises GateClosed."""
    now = store.studies.sampling_policies(study)
    for policy in policies:
        if policy not in now:
            check_wins(store, study, policy)
    store.studies.set_sampling_policies(study, policies, actor)


def blind_win_rate(
    store: Store, study: Study, policy: Policy, against: Policy, simulated: bool = False
) -> Statistic | None:
    """With its interval over prompts; None if no two answers of theirs were ranked beside each other."""
    try:
        found = blind(store, study, against.name, simulated)["policies"].get(policy.name)
    except RankloopError:
        return None
    return found["win_rate"] if found else None


def last_reward(store: Store, study: Study) -> float | None:
    """When the newest finished reward run of the study began; None without one."""
    runs = [run.document for run in store.runs.all() if run.stage == "reward" and run.study == study.id]
    return max((document["started"] for document in runs if document["state"] == "finished"), default=None)


def demand(reason: str | None) -> None:
    """Raises GateClosed if there is a reason."""
    if reason:
        raise GateClosed(reason)
