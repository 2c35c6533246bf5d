"""A study in which everything that is named or said is a script injection."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labeler.markup import MAX_CHARACTERS
from preferences.errors import RankloopError
from preferences.records import Annotator, Comparison, Policy, Response, Study, random_id
from preferences.store import Store
from preferences.tables.studies import check_study
from tests.labeler.conftest import add_account
from tests.labeler.trained import PLANNED, STAGES, begin, document
from tests.labeler.vectors import vectors

VECTORS = vectors()
TEXTS = [vector.text for vector in VECTORS]
TURNS, SIZE = 55, 9  # texts of a comparison of ours: messages of its prompt, responses
PLAN: dict[str, Any] = {"labels_train": 1000, "shared": 0.0, "repeats": 0.0, "qualification": 0, "gold": 0.0}


def chunks_of(texts: Sequence[str], most: int = MAX_CHARACTERS - 2000) -> list[str]:
    """All texts in few long ones, a paragraph each."""
    found = [""]
    for text in texts:
        if len(found[-1]) + len(text) > most:
            found.append("")
        found[-1] += f"{text}\n\n"
    return found


def some(step: int) -> list[str]:
    """Every so-manieth vector, of all techniques."""
    return TEXTS[::step]


def comparison_of(store: Store, study: Study, texts: Sequence[str], priority: float = 0.0) -> Comparison:
    """Its prompt has all texts but the last SIZE (or two) as messages, those are its responses."""
    size = SIZE if len(texts) > SIZE else 2
    roles = ("user", "assistant")
    turns = texts[:-size]
    messages = [{"role": roles[(len(turns) - 1 - i) % 2], "content": text} for i, text in enumerate(turns)]
    (prompt,) = store.prompts.add([{"messages": messages, "tags": some(40)}], heldout=0.0)
    store.studies.add_prompts(study, [prompt])
    policies = store.policies.all()
    responses = [
        Response.make(prompt.id, policies[(i + len(texts[0])) % len(policies)].id, text, 0, i)
        for i, text in enumerate(texts[-size:])
    ]
    store.responses.add(responses)
    made = store.comparisons.add(study, prompt.id, responses, priority=priority)
    assert made is not None
    return made


def fill(store: Store) -> list[Comparison]:
    """Everything in it is named and said by vectors; the comparisons of all vectors, and small ones of some."""
    for text in some(20):
        store.policies.add(Policy(random_id(), text, "imported"))
    study = store.studies.create(
        "main", SIZE, {**PLAN, "flags": some(12), "content_warnings": dict.fromkeys(some(40), "")}
    )
    made = [
        comparison_of(store, study, TEXTS[start : start + TURNS + SIZE], priority=1)
        for start in range(0, len(TEXTS), TURNS + SIZE)
    ]
    small = [comparison_of(store, study, [text, f"{text} A", f"{text} B"]) for text in some(16)]
    people = [store.annotators.add(text, "annotator", "") for text in some(4) if "\0" not in text]
    for number, person in enumerate(people[:60]):
        for comparison in (made[number % len(made)], small[number % len(small)]):
            items = comparison.items[number % 2 :] + comparison.items[: number % 2]
            store.rankings.add_imported(person, comparison, [[item] for item in items])
    for person, text in zip(people[50:60], some(50), strict=False):
        store.exclusions.exclude(study, person, text)
    author = add_account(store, "author")
    for number, text in enumerate(TEXTS[::3][:199]):
        store.remarks.add(author, study, text, f"nonce {number}")
    for text in some(14):
        name = " ".join(text.split())[:200].strip()
        try:
            check_study(name, 4, "ranking")
        except RankloopError:
            continue
        if name not in [one.name for one in store.studies.all()]:
            store.studies.set_status(store.studies.create(name), "closed")
    return [*made, *small]


def say_everything(store: Store, person: Annotator, comparisons: Sequence[Comparison]) -> None:
    """The person's history: a reason and a rewrite for each large comparison, a refusal for each small one."""
    chunks = chunks_of(TEXTS)
    for number, comparison in enumerate(comparisons):
        if len(comparison.items) > 2:
            text, best = chunks[number % len(chunks)], comparison.items[0]
            said = {"reason": text, "rewrite": text, "rewrite_of": best, "flags": {best: some(12)}}
            store.rankings.add_imported(person, comparison, [[item] for item in comparison.items], **said)
        else:
            store.rankings.add_imported(person, comparison, [], verdict="cannot_rank", reason=TEXTS[number * 3])


def train(store: Store, runs: Path) -> None:
    """A worker, its jobs (under way, failed, a memory plan), what they logged, and promotions: every text a vector."""
    named = [text for text in TEXTS if "\0" not in text]
    options = {f"option_{i}": {"type": "string", "default": text, "description": text} for i, text in enumerate(named)}
    chosen = {"one": {"type": "string", "enum": named, "default": named[0], "description": named[1], "main": 0}}
    chosen["also"] = {"type": "array", "items": {"type": "string"}, "default": [], "format": "policy", "main": 1}
    chosen["also"]["description"] = named[2]
    stages = {"ppo": {**STAGES["ppo"], "description": "\n".join(named), "properties": {**chosen, **options}}}
    about = {"model": named[0], "quantization": named[1], "device": " ".join(named), "memory_gib": None, "threads": 2}
    store.workers.publish(named[3], {**about, "runs": str(runs), "stages": stages})

    actor = store.annotators.all()[0].id
    spec = dict(zip(named, named, strict=True))
    for name in ("under-way", "failed"):
        store.jobs.launch("ppo", {**spec, "out": str(runs / name)}, actor)
        job = store.jobs.claim("box:1", 60)
        assert job is not None
        begin(store, job, runs / name, 7)
        looks = [{"prompt": text, "reference": text, "response": text, "score": 0.1, "kl": 0.2} for text in named]
        (runs / name / "samples.jsonl").write_text(json.dumps({"step": 5, "samples": looks}) + "\n")
        (runs / ".logs" / f"{job.id}.log").write_text("\n".join(named[-59:]) + "\n")
        note = document("ppo", runs / name, data_hash=named[4], error=named[5], config=spec)
        (runs / name / "config.json").write_text(json.dumps(note))
        store.runs.note(str(runs / name), note, None)
        if name == "failed":
            store.jobs.finish(job, " ".join(named))
    store.jobs.launch("plan", {"stage": "ppo", "options": spec, "vram": 24.0}, actor)
    job = store.jobs.claim("box:1", 60)
    assert job is not None
    store.jobs.beat(job, {"plan": {**PLANNED, "parts": dict.fromkeys(named, 0.1)}, "text": "\n".join(named)})

    study = store.studies.get("main")
    for number, text in enumerate(named[::40]):
        note = document("reward", runs / text, data_hash=f"hash-{number}", comparisons=1, rankings=2, config=spec)
        store.runs.note(str(runs / text), note, study.id)
        policy = Policy(random_id(), f"trained {text}", "ppo", named[0], named[1])
        store.policies.add(policy)
        store.promotions.promote(study, policy, actor, text)
