"""Policy rows as roles on a loaded base."""

from pathlib import Path

from preferences.records import Policy, Study, content_id
from preferences.store import Store
from trainer.adapters import WrongAdapter
from trainer.models import Base
from trainer.roles import Roles


def sampling_policies(store: Store, study: Study, base: Base) -> list[Policy]:
    """The study's sampling policies; the plain base is registered as its first one if it has none."""
    policies = store.studies.sampling_policies(study)
    if policies:
        return policies
    ident = content_id("policy", "base", base.identity)
    name = f"{Path(base.id).name}-{base.quantization}"
    policy = store.policies.add(Policy(ident, name, "base", base.id, base.quantization))
    store.studies.set_sampling_policies(study, [policy])
    return [policy]


def load_policy(roles: Roles, policy: Policy) -> str:
    """The role that answers as this policy; its adapter is loaded once. Raises WrongAdapter."""
    base = roles.base
    if (policy.base, policy.quantization) != (base.id, base.quantization):
        raise WrongAdapter(
            f"Policy {policy.name!r} belongs to {policy.base} ({policy.quantization}), and this is {base.id} "
            f"({base.quantization}); give --model {policy.base} --quantize {policy.quantization}."
        )
    if policy.adapter is None:
        return "base"
    if policy.id not in roles.names:
        roles.load(policy.id, Path(policy.adapter))
    return policy.id
