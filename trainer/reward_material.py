"""What a reward run takes from the database, before it trains."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.rounds import check_rankings
from preferences.store import Store
from trainer.exits import checked_layers
from trainer.going_on import resumed
from trainer.models import Base
from trainer.ranked import Ranked, context_length, data_hash, fitting, load_ranked
from trainer.recheck import ANSWERS
from trainer.remarks import remarks, why_undecided
from trainer.runs import Run, check_free
from trainer.stage import open_study

if TYPE_CHECKING:
    from trainer.reward import Reward

LEAST_FOR_VALIDATION = 50  # training prompts: of fewer, none can be spared


@dataclass(frozen=True, slots=True)
class Material:
    """What a run takes from the database: its options (those it was begun with, if it goes on) and comparisons.

    `learned`, `validation`: of the training prompts, with what was done about the others in `notes`; `held`: of the held-out
    ones; `checked`: those that may travel with the adapter. `goes_on`: whether it does so on the data it was begun with.
    """

    config: "Reward"
    study: Study
    learned: list[Ranked]
    validation: list[Ranked]
    held: list[Ranked]
    checked: list[Ranked]
    notes: list[str]
    goes_on: bool
    facts: dict[str, Any]


def read(config: "Reward", store: Store, base: Base, run: Run) -> Material:
    """The material of a run. Raises RankloopError if there is too little, or if the folder is taken."""
    going_on = config.resume is not None
    if going_on:
        config = resumed(config, "reward")
    checked_layers(config.layer, base)
    study = open_study(store, config.study)
    if not going_on:
        check_rankings(store, study, config.include_simulated)
    ranked, notes = learnable(config, store, study, base)
    digest = data_hash(ranked)
    learned, validation = split_off(ranked, config.validation, config.seed)
    judged_by, too_long = fitting(
        load_ranked(store, study, base, "heldout", config.include_simulated), context_length(base)
    )
    notes += [f"On held-out prompts {too_long}"] if too_long else []
    held = [r for r in judged_by if r.pairs]
    goes_on = run.goes_on(going_on, digest)
    if not goes_on:
        check_free(run.folder)
    facts = {
        "study": study.id, "data_hash": digest, "comparisons": len(learned), "validation": len(validation), **said_by(ranked)
    }  # fmt: skip
    return Material(config, study, learned, validation, held, (held or ranked)[:ANSWERS], notes, goes_on, facts)


def learnable(config: "Reward", store: Store, study: Study, base: Base) -> tuple[list[Ranked], list[str]]:
    """The training comparisons that say something, and what was done about the others.

    Raises RankloopError if there are too few.
    """
    annotator_model = config.soft_labels == "annotator-model"
    loaded = load_ranked(store, study, base, "train", config.include_simulated, annotator_model)
    limit = min((most for most in (config.max_length, context_length(base)) if most), default=None)
    fit, left_out = fitting(loaded, limit)
    ranked = [r for r in fit if r.pairs or (r.ties and config.ties != "drop") or (r.all_bad and config.all_bad)]
    decided = sum(bool(r.pairs) for r in ranked)
    if decided < 2:
        hint = "" if config.include_simulated else " (rankings by simulated annotators need --include-simulated)"
        why = left_out[:-1] if left_out and len(fit) < 2 else why_undecided(loaded)
        raise RankloopError(
            f"Study {study.name!r} has {decided} training comparisons with a winner; "
            f"{why + '; ' if why else ''}rank more{hint}."
        )
    return ranked, [left_out, *remarks(ranked, loaded)] if left_out else remarks(ranked, loaded)


def said_by(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """{"rankings", "annotators"}: how many orders there are, and how many of them are whose, by pseudonym."""
    counts = Counter(order.annotator for r in ranked for order in r.orders)
    return {"rankings": counts.total(), "annotators": dict(sorted(counts.items()))}


def split_off(ranked: Sequence[Ranked], share: float, seed: int) -> tuple[list[Ranked], list[Ranked]]:
    """Comparisons to learn from, and those of about that share of the prompts, if there are enough of these."""
    prompts = sorted({r.prompt for r in ranked})
    if share == 0 or len(prompts) < LEAST_FOR_VALIDATION:
        return list(ranked), []
    chosen = set(random.Random(seed).sample(prompts, max(1, round(share * len(prompts)))))
    return [r for r in ranked if r.prompt not in chosen], [r for r in ranked if r.prompt in chosen and r.pairs]
