"""`trainer report RUN`: everything that is known of a reward model, as one HTML file, its pictures, and its numbers."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from preferences.cli import open_store
from preferences.errors import RankloopError
from preferences.store import Store
from trainer.models import Base, load_base
from trainer.ranked import Ranked, context_length, fitting, load_ranked
from trainer.recheck import checked_reward
from trainer.report_html import page
from trainer.report_plots import pictures
from trainer.reward import Reward
from trainer.reward_report import Document, Material, document_of
from trainer.roles import Roles
from trainer.runs import METRICS, Run
from trainer.stage import default_device_name, device_lock, open_study

HTML, NUMBERS = "report.html", "report.json"
SLOPE = 0.5  # standard deviations for a doubling of the length
HIDDEN = ("db", "json", "out")  # options that say nothing of the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a reward run's model is worth on held-out prompts: HTML, pictures and JSON, in the run's folder."""

    run: Annotated[Path, Positional]
    """Folder of a reward run."""
    db: Path | None = None
    """The database; default the one that the run learned from."""
    out: Path | None = None
    """Folder of the report; default "report" in the run's folder."""
    robustness: bool = True
    """Score changed answers too (seven times 120 answers)."""
    curve: bool = True
    """Draw the learning curve too, for which the plain base reads all ranked answers once."""
    token_budget: int = 4096
    """Tokens scored at once."""
    json: bool = False
    """Print one JSON document alone on stdout."""


def report(config: Report) -> dict[str, Any]:
    """Write the report; {"report", "pictures", "accuracy", "better_by", "ece", "warnings"}."""
    run = Run(config.run)
    document = run.config()
    if document["stage"] != "reward":
        raise RankloopError(f"{config.run} holds a {document['stage']} run; give the folder of a reward run.")
    options = options_of(document)
    store = open_store(config.db or options.db)
    with device_lock(default_device_name()):
        base = load_base(document["base"]["base"], document["base"]["quantization"])
        material = material_of(config, options, store, base)
        found = document_of(material, store, open_study(store, options.study), config.robustness, config.curve)
    found |= about(run, document, found)
    return written(config.out or config.run / "report", found)


def options_of(document: dict[str, Any]) -> Reward:
    """The options that a run was started with; those of another version that are not known any more are left out."""
    known = {field.name for field in fields(Reward)}
    options = {name: value for name, value in document["config"].items() if name in known}
    return Reward(**{**options, "db": Path(options["db"]), "out": Path(options["out"])})


def material_of(config: Report, options: Reward, store: Store, base: Base) -> Material:
    """The model, the rankings it learned from, and those it is judged by. Raises RankloopError without held-out ones."""
    study = open_study(store, options.study)

    def ranked(split: str) -> list[Ranked]:
        found = load_ranked(store, study, base, split, options.include_simulated)
        return [r for r in fitting(found, context_length(base))[0] if r.pairs]

    held = ranked("heldout")
    if not held:
        hint = "" if options.include_simulated else " by people"
        raise RankloopError(
            f"Study {study.name!r} has no decided held-out pair{hint}, so there is nothing to judge the model by; rank "
            "answers to held-out prompts."
        )
    model = checked_reward(Roles(base), config.run / "adapter", config.token_budget)
    return Material(model, ranked("train"), held, replace(options, out=config.run), config.token_budget)


def about(run: Run, document: dict[str, Any], found: Document) -> Document:
    """The run itself: its name, options, remarks, what it logged, and what the numbers warn of."""
    lines = (run.folder / METRICS).read_text().splitlines() if (run.folder / METRICS).is_file() else []
    return {
        "run": run.folder.name,
        "base": f"{document['base']['base']} ({document['base']['quantization']})",
        "members": document["config"].get("members", 1),
        "notes": document.get("notes", []),
        "warnings": warnings_of(found),
        "options": {name: value for name, value in document["config"].items() if name not in HIDDEN}
        | {"data": document.get("data_hash", ""), **document["versions"]},
        "logged": [json.loads(line) for line in lines],
    }


def warnings_of(found: Document) -> list[str]:
    """What the numbers say against the model."""
    warned = []
    for name, other in found["baselines"].items():
        low = other["better_by"]["low"]
        if low is not None and low <= 0:
            warned.append(
                f"It is not shown to be better than {name!r}: the difference is {other['better_by']['value']:+.3f}, with 0 "
                "inside its interval; rank more, or do not train on it."
            )
    slope = found["length"]["slope"]
    if abs(slope) > SLOPE:
        longer = "longer" if slope > 0 else "shorter"
        warned.append(
            f"Among answers to one prompt the {longer} ones score higher: {slope:+.2f} standard deviations for a doubling."
        )
    return warned


def written(folder: Path, found: Document) -> dict[str, Any]:
    """Write HTML, pictures and numbers. Raises RankloopError if the folder cannot be written."""
    drawn = pictures(found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in drawn.items():
            (folder / f"{name}.png").write_bytes(png)
        (folder / NUMBERS).write_text(json.dumps(found, indent=1) + "\n")
        (folder / HTML).write_text(page(found, drawn), encoding="utf-8")
    except OSError as error:
        raise RankloopError(f"{folder} cannot be written ({error}); give another --out.") from error
    robust = [check["warning"] for check in found["robustness"] if check["warning"]]
    return {
        "report": str(folder / HTML),
        "pictures": [str(folder / f"{name}.png") for name in drawn],
        "accuracy": found["accuracy"],
        "better_by": {name: other["better_by"] for name, other in found["baselines"].items()},
        "ece": found["calibration"]["tempered"]["ece"],
        "warnings": [*found["notes"], *found["warnings"], *robust],
    }
