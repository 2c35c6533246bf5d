"""`trainer report RUN`: everything that is known of a run, as one HTML file, its pictures, and its numbers."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from tyro.conf import Positional

from preferences.cli import open_store
from preferences.errors import RankloopError
from preferences.records import Policy
from preferences.run_files import METRICS
from preferences.store import Store
from trainer import ppo_html, ppo_plots, report_html, report_plots
from trainer.models import Base, load_base
from trainer.ppo import Ppo
from trainer.ppo_report import Material as PpoMaterial
from trainer.ppo_report import document_of as ppo_document
from trainer.ppo_report import hashes, people_of
from trainer.ranked import Ranked, context_length, fitting, load_ranked
from trainer.recheck import checked_reward
from trainer.reward import Reward
from trainer.reward_report import Document, Material, document_of
from trainer.roles import Roles
from trainer.runs import Run
from trainer.stage import Stage, default_device_name, device_lock, open_study

HTML, NUMBERS = "report.html", "report.json"
SLOPE = 0.5  # standard deviations for a doubling of the length
HIDDEN = ("db", "json", "out", "resume")  # options that say nothing of the model

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a reward run's model is worth, or which checkpoint of a PPO run to take, on held-out prompts: HTML, pictures and
    JSON, in the run's folder. Several PPO runs are compared."""

    run: Annotated[Path, Positional]
    """Folder of a reward run or of a PPO run."""
    others: Annotated[tuple[Path, ...], Positional] = ()
    """Folders of further PPO runs to compare it with."""
    db: Path | None = None
    """The database; default the one that the run learned from."""
    out: Path | None = None
    """Folder of the report; default "report" in the run's folder, "comparison" for several."""
    robustness: bool = True
    """Reward: score changed answers too (seven times 120 answers)."""
    curve: bool = True
    """Reward: draw the learning curve too, for which the plain base reads all ranked answers once."""
    prompts: int = 64
    """PPO: held-out prompts that each checkpoint answers."""
    include_simulated: bool = False
    """PPO: count the rankings of simulated annotators as people's."""
    token_budget: int = 4096
    """Tokens scored or sampled at once."""
    json: bool = False
    """Print one JSON document alone on stdout."""

    def __post_init__(self) -> None:
        if self.prompts < 2:
            raise RankloopError(f"prompts must be at least 2, not {self.prompts}.")


def report(config: Report) -> dict[str, Any]:
    """Write the report; {"report", "pictures", "warnings"}, of a reward run also {"accuracy", "better_by", "ece"}, of PPO
    runs {"recommended", "points"}, by run if there are several."""
    runs = [Run(folder) for folder in (config.run, *config.others)]
    stages = [run.config()["stage"] for run in runs]
    if stages == ["reward"]:
        return reward_report(config, runs[0])
    if set(stages) != {"ppo"}:
        wrong = next(run for run, stage in zip(runs, stages, strict=True) if stage != "ppo")
        raise RankloopError(
            f"{wrong.folder} holds a {wrong.config()['stage']} run; give the folder of a reward run, or one or several of "
            "PPO runs."
        )
    documents = [ppo_report(config, run) for run in runs]
    if len(runs) == 1:
        (found,) = documents
        pictures = ppo_plots.pictures(found)
        folder = config.out or runs[0].folder / "report"
        return written(folder, found, pictures, ppo_html.page(found, pictures)) | short(found)
    names = distinct_names(documents)
    compared = {"runs": dict(zip(names, documents, strict=True))}
    pictures = ppo_plots.comparison(compared)
    folder = config.out or runs[0].folder / "comparison"
    result = written(folder, compared, pictures, ppo_html.comparison(compared, pictures))
    return result | {"runs": {name: short(found) for name, found in compared["runs"].items()}}


def short(found: Document) -> Document:
    """What a command prints of a PPO run."""
    kept = ("name", "iteration", "kl", "score", "difference", "matched", "win_rate", "people", "frontier")
    return {
        "recommended": found["recommended"],
        "points": [{name: point[name] for name in kept} for point in found["points"]],
        "warnings": [*found["notes"], *found["warnings"]],
    }


def distinct_names(documents: list[Document]) -> list[str]:
    """The names of the runs, numbered where two have the same."""
    names = [found["run"] for found in documents]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def ppo_report(config: Report, run: Run) -> Document:
    """A PPO run as a document."""
    document = run.config()
    if document["state"] != "finished":
        raise RankloopError(f"The run in {run.folder} is {document['state']}; let it end, or go on with --resume.")
    options = options_of(document, Ppo)
    store = open_store(config.db or options.db)
    study = open_study(store, options.study)
    prompts = store.prompts.all("heldout", study.id)[: config.prompts]
    if len(prompts) < 2:
        raise RankloopError(
            f"Study {study.name!r} has fewer than two held-out prompts; import more with `labeler import prompts`."
        )
    start = store.policies.get(document.get("reference", document["parent"]))
    people = people_of(store, study, start, config.include_simulated)
    with device_lock(default_device_name()):
        base = load_base(document["base"]["base"], document["base"]["quantization"])
        found = ppo_document(PpoMaterial(run, options, start, base, config.token_budget), prompts, people)
    notes = went_on(store.policies.get(document["parent"]), start)
    return found | {
        **about(run, document),
        "notes": [*document.get("notes", []), *notes],
        "seed": options.seed,
        "hashes": hashes(run, document, options),
        "start": start.name,
    }


def went_on(parent: Policy, reference: Policy) -> list[str]:
    """What a later round's report must say about its start."""
    if parent == reference:
        return []
    return [
        f"The run went on from {parent.name}; all of this is against its reference, {reference.name}, which is called the "
        "start here, as in the rounds before."
    ]


def reward_report(config: Report, run: Run) -> dict[str, Any]:
    """The report of a reward run."""
    document = run.config()
    options = options_of(document, Reward)
    store = open_store(config.db or options.db)
    with device_lock(default_device_name()):
        base = load_base(document["base"]["base"], document["base"]["quantization"])
        material = material_of(config, options, store, base)
        found = document_of(material, store, open_study(store, options.study), config.robustness, config.curve)
    found |= {"learned": document.get("comparisons", found["counts"]["training comparisons"])}
    found |= about(run, document) | {"warnings": warnings_of(found)}
    pictures = report_plots.pictures(found)
    robust = [check["warning"] for check in found["robustness"] if check["warning"]]
    result = written(config.out or config.run / "report", found, pictures, report_html.page(found, pictures))
    return result | {
        "accuracy": found["accuracy"],
        "better_by": {name: other["better_by"] for name, other in found["baselines"].items()},
        "ece": found["calibration"]["tempered"]["ece"],
        "warnings": [*found["notes"], *found["warnings"], *robust],
    }


def options_of(document: dict[str, Any], kind: type[S]) -> S:
    """The options that a run was started with; those of another version that are not known any more are left out."""
    known = {field.name for field in fields(kind)}
    options = {name: value for name, value in document["config"].items() if name in known}
    paths = {name: Path(options[name]) for name in ("db", "out", "reward", "resume") if options.get(name)}
    lists = {name: tuple(value) for name, value in options.items() if isinstance(value, list)}
    return kind(**{**options, **paths, **lists})


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


def about(run: Run, document: dict[str, Any]) -> Document:
    """The run itself: its name, options, remarks, and what it logged."""
    lines = (run.folder / METRICS).read_text().splitlines() if (run.folder / METRICS).is_file() else []
    return {
        "run": run.folder.name,
        "base": f"{document['base']['base']} ({document['base']['quantization']})",
        "members": document["config"].get("members", 1),
        "notes": document.get("notes", []),
        "options": {name: value for name, value in document["config"].items() if name not in HIDDEN}
        | {"data": document.get("data_hash", ""), **document["versions"]},
        "logged": [json.loads(line) for line in lines],
    }


def warnings_of(found: Document) -> list[str]:
    """What the numbers say against a reward model."""
    warned = []
    learned, there = found["learned"], found["counts"]["training comparisons"]
    if learned < there:
        warned.append(
            f"It learned from {learned} training comparisons, and there are {there} now, from which its baselines and the "
            "learning curve are made; train it again."
        )
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


def written(folder: Path, found: Document, pictures: dict[str, bytes], page: str) -> dict[str, Any]:
    """Write HTML, pictures and numbers; {"report", "pictures"}. Raises RankloopError if the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in pictures.items():
            (folder / f"{name}.png").write_bytes(png)
        (folder / NUMBERS).write_text(json.dumps(found, indent=1) + "\n")
        (folder / HTML).write_text(page, encoding="utf-8")
    except OSError as error:
        raise RankloopError(f"{folder} cannot be written ({error}); give another --out.") from error
    return {"report": str(folder / HTML), "pictures": [str(folder / f"{name}.png") for name in pictures]}
