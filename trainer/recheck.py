"""A few ranked answers that travel with a reward model, so that whoever loads it can see that it still judges as it did."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer.adapters import WrongAdapter
from trainer.batches import Example
from trainer.ensemble import Ensemble, load_reward
from trainer.ranked import Ranked
from trainer.roles import Roles
from trainer.scoring import Scorer

FILE = "recheck.json"
ANSWERS = 24  # about as many as cost one micro-batch
ACCURACY_TOLERANCE = 0.1  # scores that are all but equal may change places by rounding
TOLERANCE = 0.05  # standard deviations of the scores: far above rounding, far below another model


@dataclass(frozen=True, slots=True)
class Recheck:
    """Answers as token ids, their normalised scores when the model was saved, and pairs (better, worse) of them.

    `stored`: the accuracy on the pairs when it was saved.
    """

    examples: list[Example]
    scores: list[float]
    pairs: list[tuple[int, int]]
    stored: float | None = None

    def accuracy(self, scores: Sequence[float]) -> float:
        """Share of the pairs in which the better answer has the higher score; 1 if there is no pair."""
        return sum(scores[b] > scores[w] for b, w in self.pairs) / len(self.pairs) if self.pairs else 1.0


def write_recheck(folder: Path, model: Scorer, ranked: Sequence[Ranked], token_budget: int) -> None:
    """Keep the first comparisons beside the adapter. Several processes find the scores, the main one writes them."""
    examples: list[Example] = []
    pairs: list[tuple[int, int]] = []
    for one in ranked:
        if examples and len(examples) + len(one.examples) > ANSWERS:
            break
        pairs += [(len(examples) + better, len(examples) + worse) for better, worse, _ in one.pairs]
        examples += one.examples
    scores = plain(model).score_all(examples, token_budget)
    document = {
        "examples": [[example.prompt, example.response] for example in examples],
        "scores": scores,
        "pairs": pairs,
        "accuracy": Recheck(examples, scores, pairs).accuracy(scores),
    }
    if model.roles.world.main:
        (folder / FILE).write_text(json.dumps(document) + "\n")


def checked_reward(roles: Roles, folder: Path, token_budget: int, pessimism: float = 0.0) -> Scorer:
    """The reward model, or the ensemble, of a run's 'adapter' folder, which judges as it did when it was saved.

    Raises WrongAdapter if it does not, or if what it was to be checked by is gone.
    """
    model = load_reward(roles, folder, pessimism)
    recheck(folder, model, token_budget)
    return model


def recheck(folder: Path, model: Scorer, token_budget: int) -> float | None:
    """The accuracy on the answers that were kept, or None if its run kept none. Raises WrongAdapter if it is another one."""
    if not (folder / FILE).is_file():
        if model.card.get("recheck"):
            raise WrongAdapter(
                f"{folder / FILE} is missing, by which the reward model was to be known again; copy the whole folder, or "
                "train again."
            )
        return None
    kept = read_recheck(folder / FILE)
    scores = plain(model).score_all(kept.examples, token_budget)
    then, now = kept.accuracy(kept.scores) if kept.stored is None else kept.stored, kept.accuracy(scores)
    off = max(abs(a - b) for a, b in zip(scores, kept.scores, strict=True))
    if not off <= TOLERANCE or abs(then - now) > ACCURACY_TOLERANCE:
        raise WrongAdapter(
            f"The reward model {folder} does not judge as it did when it was saved: its scores are up to {off:.2g} standard "
            f"deviations off, and it orders {now:.0%} of {len(kept.pairs)} pairs like the rankings (then {then:.0%}); its "
            "files or its base have changed: train it again."
        )
    return now


def plain(model: Scorer) -> Scorer:
    """Without pessimism, which is whoever loads it's own choice."""
    return replace(model, pessimism=0.0) if isinstance(model, Ensemble) else model


def read_recheck(path: Path) -> Recheck:
    """What was kept. Raises WrongAdapter if the file is broken."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        examples = [Example(*example) for example in document["examples"]]
        pairs = [(b, w) for b, w in document["pairs"]]
        return Recheck(examples, document["scores"], pairs, document.get("accuracy"))
    except (ValueError, TypeError, KeyError) as error:
        raise WrongAdapter(f"{path} cannot be read ({error}); restore it or train again.") from error
