"""Runs that were stopped, by a signal or by a kill at any moment, go on: with which options and prompts, and from where."""

from dataclasses import fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.records import Prompt, Study
from preferences.run_files import CONFIG
from trainer.runs import Run, as_json
from trainer.world import ALONE, World


class Resumable(Protocol):
    """The options of a stage with a run folder."""

    @property
    def out(self) -> Path | None:
        """Folder of a new run."""

    @property
    def resume(self) -> Path | None:
        """Folder of the run that goes on."""


R = TypeVar("R", bound=Any)


def folder_of(config: Resumable) -> Path:
    """The run's folder."""
    folder = config.resume or config.out
    assert folder is not None
    return folder


def out_or_resume(config: Resumable) -> list[str]:
    """What is wrong with the two."""
    if config.resume is None and config.out is None:
        return ["give --out, the folder of the new run, or --resume, the folder of a stopped one"]
    if config.resume is not None and config.out is not None:
        return ["--resume goes on in its own folder; leave --out away"]
    return []


def taken_up(stage: R, name: str) -> R:
    """The same options as a resumption if their run was begun and never ended: a worker died, or was stopped, meanwhile."""
    run = Run(folder_of(stage))
    if stage.resume or not (run.folder / CONFIG).exists():
        return stage
    document = run.config()
    if not can_go_on(document, name) or not same_options(document, stage):
        return stage
    return replace(stage, resume=stage.out, out=None)


def done_before(stage: Any, name: str, job: Job) -> bool:
    """Whether the run of this job is finished: its worker died before it could say so."""
    if not hasattr(stage, "resume") or not (folder_of(stage) / CONFIG).exists():
        return False
    document = Run(folder_of(stage)).config()
    same = document["stage"] == name and same_options(document, stage)
    return bool(same and document["state"] == "finished" and document["started"] >= job.created)


def same_options(document: dict[str, Any], stage: Any) -> bool:
    """Whether a run was begun with these options; what was left open (None), such as a token budget, it chose itself."""
    begun = document["config"]
    return all(begun.get(name) == value for name, value in as_json(stage).items() if value is not None)


def can_go_on(document: dict[str, Any], name: str) -> bool:
    """Whether a run's config.json is that of a run of this stage which never finished."""
    return bool(document["stage"] == name and document["state"] != "finished")


def on_own_base(stage: R, world: World = ALONE) -> R:
    """The stage; if it goes on with a run, on that run's model in its quantisation, where the options name no other.

    Raises RankloopError if there is no such run.
    """
    if getattr(stage, "resume", None) is None:
        return stage
    document = world.told(lambda: Run(folder_of(stage)).config())
    own = {"model": document["config"]["model"], "quantize": document["base"]["quantization"]}
    left = {field.name for field in fields(stage) if getattr(stage, field.name) == field.default}
    return replace(stage, **{name: value for name, value in own.items() if name in left})


def resumed(config: R, name: str) -> R:
    """The options that the run was started with, on the present database. Raises RankloopError if it cannot go on."""
    document = Run(folder_of(config)).config()
    if not can_go_on(document, name):
        raise RankloopError(
            f"{folder_of(config)} holds a {document['stage']} run that is {document['state']}; only a stopped {name} run "
            "can go on."
        )
    hints = get_type_hints(type(config))
    known = {field.name for field in fields(config)}
    options = {key: again(value, hints[key]) for key, value in document["config"].items() if key in known}
    return type(config)(**{**options, "db": config.db, "json": config.json, "resume": config.resume, "out": None})  # type: ignore[no-any-return]


def kept(prompts: list[Prompt], study: Study, run: Run) -> list[Prompt]:
    """Those that a resumed run was begun with, in their order, out of all that the study has now.

    Raises RankloopError if one is not there any more, or if the run did not say which it had, and these are others.
    """
    ids, begun = run.prompts(), run.config().get("prompts", len(prompts))
    if ids is None:
        if len(prompts) == begun:
            return prompts
        raise RankloopError(
            f"{run.folder} was begun by a version that did not keep which prompts it had ({begun} then, {len(prompts)} now), "
            "so it cannot go on as it was; begin it again under another --out."
        )
    known = {prompt.id: prompt for prompt in prompts}
    gone = [ident for ident in ids if ident not in known]
    if gone:
        raise RankloopError(
            f"{len(gone)} of the {len(ids)} prompts that {run.folder} was begun with are no training prompts of study "
            f"{study.name!r} any more (the first is {gone[0]}), so it cannot go on as it was; begin it again under another "
            "--out."
        )
    return [known[ident] for ident in ids]


def again(value: Any, hint: Any) -> Any:
    """An option as it was before it became JSON: a text as a path, a list as a tuple."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, str) and Path in choices:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
