"""Which prompts are held out: decided by hash, before any label is seen."""

import hashlib

from preferences.records import Split


def split_of(cluster: str, heldout: float) -> Split:
    """ "heldout" for about that share of clusters, the same answer at each call."""
    fraction = int.from_bytes(hashlib.sha256(f"split {cluster}".encode()).digest()[:8]) / 2**64
    return "heldout" if fraction < heldout else "train"
