"""Policy rows as roles on a loaded base."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from preferences.records import Policy, Study, content_id
from preferences.run_files import CARD, holds_adapter
from preferences.store import Store
from trainer.adapters import WrongAdapter, read_json
from trainer.models import Base
from trainer.roles import Roles, same_weights


def sampling_policies(store: Store, study: Study, base: Base) -> list[Policy]:
    """The study's sampling policies; the plain base is registered as its first one if it has none."""
    return policies_or(store, study, lambda: plain_policy(base))


def policies_or(store: Store, study: Study, plain: Callable[[], Policy]) -> list[Policy]:
    """The study's sampling policies; `plain` gives the first one if it has none."""
    policies = store.studies.sampling_policies(study)
    if policies:
        return policies
    policy = plain()
    other = store.policies.find(policy.name)
    if other and other.id != policy.id:  # the same model with another tokenizer or chat template
        policy = replace(policy, name=f"{policy.name}-{policy.id[:6]}")
    policy = store.policies.add(policy)
    store.studies.set_sampling_policies(study, [policy])
    return [policy]


def plain_policy(base: Base) -> Policy:
    """The base without an adapter."""
    ident = content_id("policy", "base", base.called)
    return Policy(ident, f"{Path(base.id).name}-{base.quantization}", "base", base.id, base.quantization)


def load_policy(roles: Roles, policy: Policy) -> str:
    """The role that answers as this policy; its adapter is loaded once. Raises WrongAdapter."""
    base = roles.base
    if (policy.base, policy.quantization) != (base.id, base.quantization) and not elsewhere(policy, base):
        raise WrongAdapter(
            f"Policy {policy.name!r} belongs to {policy.base} ({policy.quantization}), and this is {base.id} "
            f"({base.quantization}); give --model {policy.base} --quantize {policy.quantization}."
        )
    if policy.adapter is None:
        return "base"
    if policy.id not in roles.names:
        roles.load(policy.id, Path(policy.adapter))
    return policy.id


def elsewhere(policy: Policy, base: Base) -> bool:
    """Whether the policy's adapter was trained on these weights under another name: the path on another host."""
    if policy.adapter is None or policy.quantization != base.quantization or not holds_adapter(Path(policy.adapter)):
        return False
    return bool(same_weights(read_json(Path(policy.adapter) / CARD), base))
