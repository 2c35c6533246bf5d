"""Which policy answers a study's prompts from now on, by whose decision, and the way back."""

from pathlib import Path

from preferences.errors import RankloopError
from preferences.jobs import KnownWorker
from preferences.records import Event, Policy, Study
from preferences.run_files import holds_adapter
from preferences.tables.table import Table

CHOSEN, PROMOTED, ROLLED_BACK = "sampling policies", "policy promoted", "policy rolled back"
# Sampled comparisons that wait and that nobody has begun; and whether a policy that answers now gave one of the answers.
UNTOUCHED = (
    "study = :study AND labels < wanted + extra AND asked_by IS NULL AND (labels > 0) = 0 "
    "AND origin IN ('sampled', 'selected', 'random')"
)
OF_NOW = (
    "EXISTS (SELECT 1 FROM comparison_responses AS cr JOIN responses AS r ON r.id = cr.response "
    "WHERE cr.comparison = comparisons.id AND r.policy IN "
    "(SELECT policy FROM study_policies WHERE study = :study AND until IS NULL))"
)


class NotPromotable(RankloopError):
    """The policy cannot answer prompts, or does so already; or there is nothing to go back to."""


def refusal(policy: Policy, worker: KnownWorker | None) -> str | None:
    """Why the policy could not answer prompts, or None. `worker`: the one that would sample, if it is known."""
    if policy.kind in ("imported", "human"):
        return f"Policy {policy.name!r} is texts from elsewhere, and no model here answers as it; choose a trained one."
    if policy.adapter is not None and not holds_adapter(Path(policy.adapter)):
        return (
            f"The adapter of policy {policy.name!r} is not at {policy.adapter}; put the folder back, or train it again."
        )
    of_worker = (worker.about["model"], worker.about["quantization"]) if worker else None
    if of_worker and of_worker != (policy.base, policy.quantization):
        return (
            f"Policy {policy.name!r} belongs to {policy.base} ({policy.quantization}), and the worker samples from "
            f"{of_worker[0]} ({of_worker[1]}); start `trainer worker --model {policy.base} --quantize {policy.quantization}`."
        )
    return None


class Promotions(Table):
    """Each is one line of the audit log. Rankings and comparisons of earlier policies stay as they are."""

    def promote(self, study: Study, policy: Policy, actor: str, reason: str = "") -> None:
        """From now on the policy alone answers the study's prompts. Raises NotPromotable."""
        sentence = refusal(policy, self.store.workers.newest())
        if sentence:
            raise NotPromotable(sentence)
        with self.store.write():
            if self.store.studies.sampling_policies(study) == [policy]:
                raise NotPromotable(f"Policy {policy.name!r} answers the prompts of study {study.name!r} already.")
            self.store.studies.set_sampling_policies(study, [policy], actor, PROMOTED, reason)

    def roll_back(self, study: Study, actor: str, reason: str = "") -> list[Policy]:
        """What answered before the newest choice answers again; the next time, what answered before that.

        Raises NotPromotable.
        """
        with self.store.write():
            before = self.standing(study)[:-1]
            if not before:
                raise NotPromotable(f"No other policy answered the prompts of study {study.name!r} before.")
            policies = [self.store.policies.get(ident) for ident in before[-1]]
            sentences = [refusal(policy, self.store.workers.newest()) for policy in policies]
            if any(sentences):
                raise NotPromotable(next(sentence for sentence in sentences if sentence))
            self.store.studies.set_sampling_policies(study, policies, actor, ROLLED_BACK, reason)
        return policies

    def standing(self, study: Study) -> list[list[str]]:
        """Ids of the policies of each choice that was not rolled back, oldest first: the last ones answer now."""
        chosen: list[list[str]] = []
        for event in self.history(study):
            if event.kind == ROLLED_BACK and len(chosen) > 1:
                chosen.pop()
            elif not chosen or chosen[-1] != event.detail["policies"]:
                chosen.append(event.detail["policies"])
        return chosen

    def history(self, study: Study) -> list[Event]:
        """The choices, oldest first; `detail`: {"policies": ids, "reason"?}."""
        return self.store.events.about(study.id, CHOSEN, PROMOTED, ROLLED_BACK)

    def put_off(self, study: Study) -> None:
        """What waits of earlier policies, and nobody has begun, comes after what the present ones say: below priority 0."""
        with self.store.write() as db:
            for priority, which in ((-1, f"priority >= 0 AND NOT {OF_NOW}"), (0, f"priority < 0 AND {OF_NOW}")):
                sql = f"UPDATE comparisons SET priority = {priority} WHERE {UNTOUCHED} AND {which}"
                db.execute(sql, {"study": study.id})

    def fresh(self, study: Study, most: int) -> int:
        """How many open comparisons are not left over from earlier policies; counted up to `most`."""
        sql = (
            "SELECT count(*) FROM (SELECT 1 FROM comparisons WHERE study = ? AND labels < wanted + extra "
            "AND asked_by IS NULL AND priority >= 0 LIMIT ?)"
        )
        return self.number(sql, study.id, most)
