"""Short ways to a store with prompts, policies and rankings, and to adapters on a tiny base."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from preferences.records import Annotator, Comparison, Policy, Prompt, Response, Study, Tiers
from preferences.store import Store
from tests.tiny import DATA
from trainer.models import Base, Quantization, load_base
from trainer.roles import Roles, lora_config

QUESTIONS = [json.loads(line)["messages"] for line in (DATA / "round_prompts.jsonl").read_text().splitlines()]


def add_prompts(store: Store, study: Study, count: int, split: str = "train") -> list[Prompt]:
    """Short prompts of that split in the study; held-out ones come from the other end of the file."""
    held = split == "heldout"
    questions = QUESTIONS[-count:] if held else QUESTIONS[:count]
    prompts = store.prompts.add([{"messages": messages} for messages in questions], heldout=float(held))
    assert {prompt.split for prompt in prompts} == {split}
    store.studies.add_prompts(study, prompts)
    return prompts


def add_comparison(
    store: Store, study: Study, prompt: Prompt, texts: Sequence[str], finish: str = "stop", policy: str = "somebody"
) -> Comparison:
    """A comparison of those texts; shown in that order."""
    store.policies.add(Policy(policy, policy, "imported"))
    made: list[Response] = [
        Response.make(prompt.id, policy, text, 0, index, finish_reason=finish) for index, text in enumerate(texts)
    ]
    store.responses.add(made)
    comparison = store.comparisons.add(study, prompt.id, made)
    assert comparison is not None
    return comparison


def annotator(store: Store, name: str = "ann", simulated: bool = False) -> Annotator:
    """An account that can log in; the same one at each call."""
    return store.annotators.find(name) or store.annotators.add(name, "annotator", "hash", simulated)


def rank(store: Store, comparison: Comparison, tiers: list[list[int]], who: Annotator | None = None) -> None:
    """A ranking of the shown items, given by their numbers."""
    named: Tiers = [[comparison.items[i] for i in tier] for tier in tiers]
    store.rankings.add_imported(who or annotator(store), comparison, named)


def save_adapter(
    model: Path, folder: Path, quantize: Quantization = "none", seed: int = 1, scale: float = 0.02, head: bool = False
) -> Path:
    """A random adapter (with a random score head) on that model."""
    roles = Roles(load_base(str(model), quantize))
    torch.manual_seed(seed)
    roles.add("made", lora_config(roles.base, 4, 8))
    card: dict[str, Any] = {"kind": "sft"}
    if head:
        torch.nn.init.normal_(roles.add_head("made").weight, std=0.1)  # scores of about one
        card = {"kind": "reward", "mean": 0.0, "std": 1.0, "data_hash": "made"}
    disturb(roles, "made", scale)
    roles.save("made", folder, card)
    return folder


def disturb(roles: Roles, role: str, scale: float) -> None:
    """Random weights on top of a role's adapter."""
    with torch.no_grad():
        for parameter in roles.parameters(role):
            parameter.add_(scale * torch.randn_like(parameter))


def add_policy(
    store: Store, study: Study, base: Base, adapter: Path, name: str = "sft", answers: bool = True
) -> Policy:
    """The policy row of an adapter; it answers the study's prompts from now on if `answers`."""
    policy = store.policies.add(Policy(name, name, "sft", base.id, base.quantization, str(adapter.resolve())))
    if answers:
        store.studies.set_sampling_policies(study, [policy])
    return policy


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def state(run: Path) -> dict[str, Any]:
    """A run's config.json."""
    document: dict[str, Any] = json.loads((run / "config.json").read_text())
    return document


def demonstrations(path: Path, talks: list[list[dict[str, str]]]) -> Path:
    """A file of those conversations."""
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return path
