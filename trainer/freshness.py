"""Keeps a reward model's accuracy by day fresh: what was ranked since it last scored is scored while nothing else waits."""

import sys
from collections.abc import Sequence
from pathlib import Path

from preferences.errors import RankloopError
from preferences.records import Response, Study
from preferences.store import Store
from trainer.check import ranked_heldout, score
from trainer.models import Base
from trainer.recheck import checked_reward
from trainer.roles import Roles

EVERY = 3600.0  # seconds between two looks: the base is loaded anew for it


class Freshness:
    """`looked`: when it was last looked, by the store's clock; `refused`: reward models that are not this base's."""

    def __init__(self) -> None:
        self.looked = float("-inf")
        self.refused: set[str] = set()

    def unscored(self, store: Store, study: Study) -> tuple[str, Sequence[Response]]:
        """The reward model that scored last, and the ranked held-out answers it has not scored; none before it is time."""
        now = store.clock()
        if now - self.looked < EVERY:
            return "", []
        self.looked = now
        rewards = store.scores.rewards()
        if not rewards or rewards[0][0] in self.refused:
            return "", []
        answers = ranked_heldout(store, study)
        known = store.scores.of(rewards[0][0], [one.id for one in answers])
        return rewards[0][0], [one for one in answers if one.id not in known]

    def refresh(self, store: Store, base: Base, reward: str, answers: Sequence[Response], token_budget: int) -> int:
        """Score them; how many were new. A reward model that does not fit the base is left alone from then on."""
        try:
            model = checked_reward(Roles(base), Path(reward), token_budget)
        except RankloopError as error:
            print(f"The accuracy by day is not kept fresh: {error}", file=sys.stderr)
            self.refused.add(reward)
            return 0
        return score(store, model, reward, answers, token_budget)
