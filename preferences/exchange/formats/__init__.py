"""Other tools' files: each format makes ranked sets (or none) of one record, or raises a ValueError that says why not."""

from collections.abc import Callable
from typing import Any

from preferences.exchange.formats import argilla, hh, label_studio, oasst, trl
from preferences.exchange.formats.common import RankedSet

SETS: dict[str, Callable[[Any], list[RankedSet]]] = {
    "rankloop": lambda record: [record],
    "trl-preference": trl.sets,
    "hh": hh.sets,
    "oasst": oasst.sets,
    "argilla": argilla.sets,
    "label-studio": label_studio.sets,
}
