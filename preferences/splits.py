"""Which prompts are held out: decided by hash, before any label is seen."""

from preferences.plan import draw
from preferences.records import Split


def split_of(cluster: str, heldout: float) -> Split:
    """ "heldout" for about that share of clusters, the same answer at each call."""
    return "heldout" if draw(f"split {cluster}") < heldout else "train"
