"""A statistic in words: its value and its interval, or why there is none."""

from preferences.intervals import Statistic


def value(found: Statistic) -> str:
    """The number, or why there is none."""
    return f"undefined, because {found['undefined']}" if "undefined" in found else f"{found['value']:.3f}"


def interval(found: Statistic) -> str:
    """From where to where."""
    return "" if "undefined" in found else f"{found['low']:.3f} to {found['high']:.3f}"
