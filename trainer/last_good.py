"""What a PPO run that fails or is interrupted leaves behind: the last good adapter, and why it ended."""

import sys
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from preferences.errors import RankloopError
from trainer.rewards import said
from trainer.world import PeerLost

if TYPE_CHECKING:
    from trainer.ppo_trainer import PpoTrainer


def keep_last_good(trainer: "PpoTrainer", parent: str, error: BaseException) -> None:
    """The policy of the newest checkpoint as the run's adapter, if there is one; the run can still go on. `parent`: the id of
    the policy that it started from.

    What is in memory may be in the middle of an iteration, or may be what went wrong.
    """
    state = "interrupted" if isinstance(error, (PeerLost, KeyboardInterrupt)) else "failed"
    facts = {} if isinstance(error, KeyboardInterrupt) else {"error": words_of(error)}
    try:
        done = trainer.last_good() if trainer.done else 0
        if done:
            trainer.roles.save("policy", trainer.run.adapter, {"kind": "ppo", "parent": parent, "iterations": done})
        trainer.run.finish(state, **facts, iterations=done)
    except (RankloopError, OSError, RuntimeError, SafetensorError) as worse:  # as on a full disk
        # Said beside the first error and not in its place: that is the one that has to be mended.
        print(f"The run's folder could not be brought up to date: {said(worse)}.", file=sys.stderr)


def words_of(error: BaseException) -> str:
    """Why it failed, in a sentence."""
    return (
        str(error) if isinstance(error, RankloopError) else f"The run failed: {said(error)}; --resume goes on with it."
    )
