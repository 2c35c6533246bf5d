"""Where policies and reward models come from: rankings, demonstrations, parents, samplers, options. Read from the store."""

from pathlib import Path
from typing import Any

from labeler.reports import report_of
from labeler.training import facts, is_there
from preferences.exchange.names import pseudonym
from preferences.jobs import KnownRun
from preferences.records import Policy
from preferences.run_files import ADAPTER, holds_adapter
from preferences.store import Store

Node = dict[str, Any]


def lineage_json(store: Store) -> dict[str, Any]:
    """{"nodes", "edges"}: what made what; an edge is {"from", "to"}, ids of nodes.

    Nodes are policies, reward models, and the rankings and demonstrations that these learned from.
    """
    runs = store.runs.all()
    made_by = {run.document["policy"]: run for run in runs if "policy" in run.document}
    policies = store.policies.all()
    answering, samplers = answering_in(store), store.responses.samplers()
    names = {policy.id: policy.name for policy in policies}
    nodes = [
        policy_node(policy, made_by.get(policy.id), answering.get(policy.id, []), samplers.get(policy.id, []), names)
        for policy in policies
    ]
    nodes += [reward_node(store, run) for run in runs if run.stage == "reward"]
    edges = [{"from": policy.parent, "to": policy.id} for policy in policies if policy.parent]
    rewards = {str(Path(run.folder) / ADAPTER): run.id for run in runs if run.stage == "reward"}
    for policy, run in made_by.items():
        judge = run.document.get("judged_by")
        if judge in rewards:
            edges.append({"from": rewards[judge], "to": policy})
    for run in runs:
        node = data_node(store, run)
        if node is None:
            continue
        if node["id"] not in [known["id"] for known in nodes]:
            nodes.append(node)
        edges.append({"from": node["id"], "to": run.document.get("policy", run.id)})
    known = {node["id"] for node in nodes}
    return {"nodes": nodes, "edges": [edge for edge in edges if {edge["from"], edge["to"]} <= known]}


def answering_in(store: Store) -> dict[str, list[str]]:
    """Policy -> the names of the studies whose prompts it answers now."""
    found: dict[str, list[str]] = {}
    for study in store.studies.all():
        for policy in store.studies.sampling_policies(study):
            found.setdefault(policy.id, []).append(study.name)
    return found


def policy_node(
    policy: Policy, run: KnownRun | None, studies: list[str], samplers: list[dict[str, Any]], names: dict[str, str]
) -> Node:
    """A policy, the studies it answers in, how its answers were drawn, and the run that made it. `names`: of policies."""
    reference = names.get(run.document.get("reference", "")) if run else None
    return {
        "id": policy.id,
        "kind": "policy",
        "stage": policy.kind,
        "name": policy.name,
        "created": policy.created,
        "facts": [
            ["Base", f"{policy.base} ({policy.quantization})" if policy.base else "none"],
            *([["Data", policy.data_hash]] if policy.data_hash and run is None else []),
            *([["Reference of its KL", reference]] if reference else []),
            *(facts(run.document) if run else []),
        ],
        "missing": policy.adapter is not None and not holds_adapter(Path(policy.adapter)),
        "answers": studies,
        "samplers": samplers,
        **of_run(run),
    }


def reward_node(store: Store, run: KnownRun) -> Node:
    """A reward model, and whose rankings it learned from."""
    return {
        "id": run.id,
        "kind": "reward",
        "stage": "reward",
        "name": Path(run.folder).name,
        "created": run.document.get("ended", run.updated),
        "facts": [["Base", f"{run.document['base']['base']} ({run.document['base']['quantization']})"], *facts(run.document)],
        "missing": not is_there(run),
        "annotators": annotators(store, run),
        **of_run(run),
    }  # fmt: skip


def of_run(run: KnownRun | None) -> Node:
    """{"run", "report" (whether it has one), "config", "command", "versions"} of a node that a run made; nothing of one that
    none made."""
    if run is None:
        return {}
    config = {name: value for name, value in run.document["config"].items() if value is not None}
    document = run.document
    return {
        "run": run.id,
        "report": report_of(run) is not None,
        "config": config,
        "command": document.get("command"),
        "versions": document["versions"],
    }


def data_node(store: Store, run: KnownRun) -> Node | None:
    """The rankings or demonstrations that a run learned from; the same for runs on the same ones."""
    document = run.document
    if run.stage not in ("reward", "sft") or not document.get("data_hash"):
        return None
    kind = "rankings" if run.stage == "reward" else "demonstrations"
    count = document.get(kind)
    return {
        "id": f"{kind} {document['data_hash']}",
        "kind": kind,
        "stage": kind,
        "name": f"{count} {kind}" if count is not None else kind,
        "created": document.get("started", run.updated),
        "facts": [
            ["Hash", document["data_hash"]],
            *([["Comparisons", str(document["comparisons"])]] if kind == "rankings" else []),
            *([["File", document["config"]["demonstrations"]]] if kind == "demonstrations" else []),
        ],
        "missing": False,
        "annotators": annotators(store, run),
    }


def annotators(store: Store, run: KnownRun) -> list[list[Any]]:
    """[[name, rankings], ...] of those whose rankings the run learned from; a pseudonym where the account is not known."""
    counted: dict[str, int] = run.document.get("annotators", {})
    if not counted or run.study is None:
        return []
    study = store.studies.get(run.study)
    names = {pseudonym(study, account): account.name for account in store.annotators.all()}
    return [[names.get(one, one), count] for one, count in sorted(counted.items(), key=lambda pair: -pair[1])]
