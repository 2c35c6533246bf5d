"""Everything that a report says of a reward model, as one document of numbers."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from preferences.intervals import Interval
from preferences.records import Study
from preferences.store import Store
from preferences.summary import agreement
from trainer.baseline import TextBaseline
from trainer.calibration import brier, ece, fit_temperature, reliability
from trainer.elements import distinct
from trainer.ensemble import Ensemble
from trainer.exits import checked_layers, leaving
from trainer.learning_curve import learning_curve
from trainer.ranked import Ranked
from trainer.reward import Reward
from trainer.reward_material import split_off
from trainer.reward_metrics import (
    Pair,
    Scores,
    accuracy,
    by,
    by_annotator,
    hit,
    kendall_tau,
    lengths,
    negated,
    pairs_of,
    shares_by_prompt,
    top_1,
)
from trainer.robustness import sensitivity
from trainer.roles import Roles
from trainer.scoring import RewardModel, Scorer

WORST = 20  # disagreements in the table
CHECKED = 120  # answers of the robustness checks
SAMPLES = 200  # answers of the sampling policies
FEW = 5  # pairs: of fewer, a group is not shown

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    """What a report rests on. `ranked`: the training comparisons; `held`: those it is judged by; `options`: the run's."""

    model: Scorer
    ranked: list[Ranked]
    held: list[Ranked]
    options: Reward
    token_budget: int

    def scores(self, ranked: Sequence[Ranked]) -> list[list[float]]:
        """A list a comparison."""
        examples, rows = distinct(ranked)
        scores = self.model.score_all(examples, self.token_budget)
        return [[scores[i] for i in row] for row in rows]


def document_of(material: Material, store: Store, study: Study, robust: bool, curve: bool) -> Document:
    """{"accuracy", "baselines", "ceiling", "groups", "order", "calibration", "scores", "length", "worst", ...}."""
    held, scores = material.held, material.scores(material.held)
    learned, validation = split_off(material.ranked, material.options.validation, material.options.seed)
    pairs = pairs_of(held, scores)
    return {
        "accuracy": accuracy(held, scores).as_dict(),
        "baselines": baselines(learned, held, scores),
        "ceiling": agreement(store, study.id, material.options.include_simulated)["reward_ceiling"],
        "groups": groups(held, scores, pairs),
        "order": {"kendall_tau": kendall_tau(held, scores).as_dict(), "top_1": top_1(held, scores).as_dict()},
        "calibration": calibration(material, validation, held, pairs),
        "gaps": [pair.gap for pair in pairs],
        "chosen": [scores[pair.comparison][pair.better] for pair in pairs],
        "rejected": [scores[pair.comparison][pair.worse] for pair in pairs],
        "length": length_slope(held, scores),
        "worst": worst(held, pairs, scores),
        "samples": samples(material, store, study),
        "curve": curve_of(material, learned) if curve else [],
        "robustness": sensitivity(material.model, held, CHECKED, material.token_budget) if robust else [],
        "counts": {
            "training comparisons": len(learned), "validation comparisons": len(validation),
            "held-out comparisons": len(held), "held-out prompts": len({r.prompt for r in held}),
            "held-out pairs": len(pairs), "held-out ties": sum(len(r.ties) for r in held),
        },
    }  # fmt: skip


def baselines(learned: Sequence[Ranked], held: Sequence[Ranked], scores: Scores) -> dict[str, Any]:
    """name -> {"accuracy", "better_by": the model's accuracy less its, paired over the same pairs, with intervals}."""
    others = {
        "longer wins": lengths(held),
        "shorter wins": negated(lengths(held)),
        "TF-IDF + length": TextBaseline(learned).scores(held),
    }
    return {
        name: {"accuracy": accuracy(held, other).as_dict(), "better_by": better_by(held, scores, other).as_dict()}
        for name, other in others.items()
    }


def better_by(ranked: Sequence[Ranked], scores: Scores, other: Scores) -> Interval:
    """Mean over the decided pairs of (1 if rightly ordered) by the scores less the same by the others, over prompts."""
    rows = zip(pairs_of(ranked, scores), pairs_of(ranked, other), strict=True)
    return shares_by_prompt((ranked[a.comparison].prompt, hit(a.gap) - hit(b.gap)) for a, b in rows)


def groups(ranked: Sequence[Ranked], scores: Scores, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Accuracy by strength, ranks between, K, source, language, annotator; groups with very few pairs are left out."""
    words = {0.0: "not said", 1.0: "negligibly", 2.0: "slightly", 3.0: "clearly", 4.0: "much"}
    keys: dict[str, Callable[[Pair, Ranked], str | None]] = {
        "strength": lambda pair, _: words[min(4.0, float(np.ceil(pair.strength)))],
        "ranks between": lambda pair, _: str(max(1, round(pair.steps))),
        "answers (K)": lambda _, r: str(len(r.texts)),
        "source": lambda _, r: r.source or "not said",
        "language": lambda _, r: r.language or "not said",
        "longer one": longer,
    }
    found = {name: by(ranked, pairs, key) for name, key in keys.items()}
    found["strength"] = {word: found["strength"][word] for word in words.values() if word in found["strength"]}
    found["annotator"] = by_annotator(ranked, scores)
    return {
        name: {group: one.as_dict() for group, one in of_name.items() if one.n >= FEW}
        for name, of_name in found.items()
    }


def longer(pair: Pair, ranked: Ranked) -> str:
    """Whether the preferred answer is the longer one."""
    better, worse = len(ranked.texts[pair.better]), len(ranked.texts[pair.worse])
    return "preferred" if better > worse else "other" if better < worse else "neither"


def calibration(
    material: Material, validation: Sequence[Ranked], held: Sequence[Ranked], pairs: Sequence[Pair]
) -> Document:
    """ECE, Brier score and reliability of the held-out pairs, before and after a temperature from other prompts."""
    gaps, shares = [pair.gap for pair in pairs], [pair.share for pair in pairs]
    if validation:
        found = pairs_of(validation, material.scores(validation))
        fitted = fit_temperature([pair.gap for pair in found], [pair.share for pair in found])
        temperatures, where = [fitted] * len(pairs), f"fitted on {len(found)} pairs of the validation prompts"
    else:
        temperatures, where = (
            crossed(held, pairs),
            "fitted on the other half of the held-out prompts (no validation split)",
        )
    tempered = [gap / t for gap, t in zip(gaps, temperatures, strict=True)]
    return {
        "temperature": float(np.mean(temperatures)),
        "fitted": where,
        "raw": reliability_of(gaps, shares),
        "tempered": reliability_of(tempered, shares),
    }


def reliability_of(gaps: Sequence[float], shares: Sequence[float]) -> Document:
    """{"ece", "brier", "bins"}."""
    bins = reliability(gaps, shares)
    return {"ece": ece(bins), "brier": brier(gaps, shares), "bins": [asdict(one) for one in bins]}


def crossed(held: Sequence[Ranked], pairs: Sequence[Pair]) -> list[float]:
    """A temperature for each pair, fitted on the half of the prompts that it is not of; 1 where there is no other half."""
    prompts = sorted({r.prompt for r in held})
    half = set(prompts[::2])
    side = [held[pair.comparison].prompt in half for pair in pairs]
    found = {}
    for own in (True, False):
        others = [pair for pair, s in zip(pairs, side, strict=True) if s is not own]
        found[own] = fit_temperature([p.gap for p in others], [p.share for p in others]) if others else 1.0
    return [found[s] for s in side]


def length_slope(ranked: Sequence[Ranked], scores: Scores) -> Document:
    """Characters and scores of the answers, and the line through them within prompts: {"x", "y", "slope", "r2"}.

    `slope`: standard deviations of the score for a doubling of the length, among answers to the same prompt.
    """
    examples, rows = distinct(ranked)
    seen: dict[int, tuple[str, float, float]] = {}
    for r, row, where in zip(ranked, scores, rows, strict=True):
        for i, at in enumerate(where):
            seen[at] = (r.prompt, float(len(r.texts[i])), row[i])
    assert len(seen) == len(examples)
    x = np.array([length for _, length, _ in seen.values()])
    y = np.array([score for _, _, score in seen.values()])
    prompt = np.unique([name for name, _, _ in seen.values()], return_inverse=True)[1]
    log = np.log2(1 + x)
    dx, dy = (v - (np.bincount(prompt, v) / np.bincount(prompt))[prompt] for v in (log, y))
    spread = float((dx**2).sum() * (dy**2).sum())
    slope = float((dx * dy).sum() / (dx**2).sum()) if (dx**2).sum() > 0 else 0.0
    r2 = float((dx * dy).sum() ** 2 / spread) if spread > 0 else 0.0
    return {"x": x.tolist(), "y": y.tolist(), "slope": slope / max(float(y.std()), 1e-6), "r2": r2}


def worst(ranked: Sequence[Ranked], pairs: Sequence[Pair], scores: Scores) -> list[Document]:
    """The pairs that the model orders against the rankings by most, one a comparison: what to look at, or label again."""
    against = sorted((pair for pair in pairs if pair.gap < 0), key=lambda pair: pair.gap)
    first = {pair.comparison: pair for pair in reversed(against)}
    found = sorted(first.values(), key=lambda pair: pair.gap)[:WORST]
    return [
        {
            "prompt": ranked[pair.comparison].messages[-1]["content"] if ranked[pair.comparison].messages else "",
            "preferred": ranked[pair.comparison].texts[pair.better],
            "other": ranked[pair.comparison].texts[pair.worse],
            "preferred_score": scores[pair.comparison][pair.better],
            "other_score": scores[pair.comparison][pair.worse],
            "share": pair.share,
            "comparison": ranked[pair.comparison].ident,
        }
        for pair in found
    ]


def samples(material: Material, store: Store, study: Study) -> Document:
    """Scores of answers by the study's SFT (or base) policies, before and after normalisation, means over the members of an
    ensemble; {} if there are none."""
    policies = [policy for policy in store.policies.all() if policy.kind in ("sft", "base")]
    prompts = {prompt.id: prompt for prompt in store.prompts.all(None, study.id)}
    answers = [
        response
        for policy in policies
        for response in store.responses.of_policy(policy.id)
        if response.prompt in prompts
    ][:SAMPLES]
    if not answers:
        return {}
    model = material.model
    examples = model.examples_of(answers, [prompts[r.prompt] for r in answers])
    after = np.array(model.each_all(examples, material.token_budget))
    units = np.array([(one.mean, one.std) for one in members_of(model)])
    before = after * units[:, 1:] + units[:, :1]
    return {
        "policies": [policy.name for policy in policies], "raw": before.mean(0).tolist(), "normalised": after.mean(0).tolist()
    }  # fmt: skip


def members_of(model: Scorer) -> Sequence[RewardModel]:
    """One, or those of an ensemble, in the order of their scores."""
    if isinstance(model, Ensemble):
        return model.members
    assert isinstance(model, RewardModel), "Nothing else scores."
    return [model]


def curve_of(material: Material, learned: Sequence[Ranked]) -> list[Document]:
    """The learning curve's points."""
    roles: Roles = material.model.roles
    options = material.options
    with leaving(roles.base, [checked_layers(options.layer, roles.base)], whole=False):
        points = learning_curve(roles, learned, material.held, options.pooling, options.l2, material.token_budget)
    return [asdict(point) for point in points]
