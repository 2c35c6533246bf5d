"""`labeler stats`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from preferences.cli import DEFAULT_DB, open_store, print_json, say, shown, without_collection
from preferences.intervals import Statistic
from preferences.store import Store


@dataclass(frozen=True, slots=True)
class Stats:
    """Count what the database holds, and say how far its annotators agree."""

    strengths: Literal["model"] | None = None
    """Instead: how strong the models (policies) are whose responses were ranked."""
    against: str | None = None
    """Instead: how the policies fare blind, on held-out prompts, against the one of this name."""
    study: str | None = None
    """Only this study's rankings (default: of all studies); the counts are always of the whole database."""
    include_simulated: bool = False
    """Also the rankings of simulated annotators."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Counts first, then the statistics."""
        from preferences import summary  # it loads scipy.stats, which no other command should wait for
        from preferences.blind import blind

        store = open_store(self.db)
        if self.against:
            with without_collection():
                chosen = store.studies.get(self.study) if self.study else store.studies.default()
                found = blind(store, chosen, self.against, self.include_simulated)
            say(found, "\n".join(blind_lines(found)), self.json)
            return
        study = store.studies.get(self.study).id if self.study else None
        if self.strengths:
            with without_collection():
                found = {"strengths": self.strengths, **summary.strengths(store, study, self.include_simulated)}
            say(found, "\n".join(lines(found)), self.json)
            return
        counts = count(store)
        with without_collection():
            found = summary.agreement(store, study, self.include_simulated)
        if self.json:
            print_json({**counts, **found})
            return
        pairs, people = len(found.pop("cohen_kappa")), found.pop("by_annotator")  # easily thousands
        positions = found["position_bias"].pop("positions")
        print("\n".join([*(f"{name}: {number}" for name, number in counts.items()), "", *lines(found)]))
        for of_place in positions:
            print(
                f"position_bias shown {of_place['position']}: {in_words(of_place)}, expected {of_place['expected']:.3f}"
            )
        for name, person in people.items():
            said = f"annotator {name}: {person['rankings']} rankings, agreement {in_words(person['agreement'])}"
            print(shown(said))
        print(f"cohen_kappa: of {pairs} pairs of annotators, with --json")


def blind_lines(found: dict[str, Any]) -> list[str]:
    """A few lines a policy."""
    made = [f"against {found['against']}, on held-out prompts"]
    for name, one in found["policies"].items():
        test = one["sequential"]
        made += [
            f"{name} wins: {in_words(one['win_rate'])} prompts ({one['labels']} labels)",
            f"{name} wins at equal length: {in_words(one['at_equal_length']['win_rate'])}",
            f"{name} is {test['decision']}: {in_words(test)}, however often one looks",
            f"{name} labels needed: {in_words(one['labels_needed'])}",
        ]
    return made


def count(store: Store) -> dict[str, int]:
    """How many of each noun there are; `rankings`: current ones; `waiting`: comparisons that want a label."""
    return {
        **store.counts.all(),
        "waiting": sum(store.queue.waiting(study) for study in store.studies.all() if study.status == "active"),
    }


def lines(found: dict[str, Any], path: str = "") -> list[str]:
    """One line a statistic, those of one kind below each other."""
    made = []
    for name, value in found.items():
        label = f"{path}{name}"
        if isinstance(value, dict) and not {"value", "undefined"} & set(value):
            made += lines(value, f"{label} ")
        elif isinstance(value, dict):
            made.append(f"{label}: {in_words(value)}")
        else:
            made.append(f"{label}: {value}")
    return made


def in_words(found: Statistic) -> str:
    """A statistic for people."""
    if "undefined" in found:
        return f"undefined, because {found['undefined']}"
    value, low, high = ("none" if found[name] is None else f"{found[name]:.3f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}], n={found['n']}"
