"""What a worker does with a job: its options, its heartbeat, its end; and taking it up where another worker died."""

import _thread
import io
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import MISSING, fields, replace
from pathlib import Path
from threading import Event
from types import UnionType
from typing import IO, TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from preferences.beside import beside
from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.run_files import LOGS, forget_logs
from preferences.store import Store
from preferences.tables.jobs import JobLost
from trainer import plan_text
from trainer.ensemble import members_of
from trainer.going_on import done_before, on_own_base, taken_up
from trainer.models import default_device, default_quantization
from trainer.plan import Plan, plan
from trainer.ppo import Ppo
from trainer.report import Report, report
from trainer.selecting import Select
from trainer.stage import STOP_JOB, Stage, default_device_name, device_lock, open_base, open_study
from trainer.stages import BY_NAME, execute

if TYPE_CHECKING:
    from trainer.worker import Worker

HEARTBEAT_SECONDS = 5
LOG_BYTES = 10_000_000  # of a job's log, before it begins anew
OWN = ("model", "quantize", "study", "seed")  # the worker's, where a job does not say
KINDS: dict[str, type[Stage | Report]] = {**BY_NAME, "report": Report}
NOT_OF_JOBS = ("db", "functions")  # the worker's database, and what would run any file of its machine
OWN_SERVER = ("endpoint", "endpoint_model", "concurrency")  # of jobs that sample


def do_job(config: "Worker", store: Store, job: Job) -> None:
    """Run a job's stage, or go on with it; whatever goes wrong fails the job with a sentence, and the worker goes on.

    Only the worker that holds the device looks how far the job is: an earlier one may have been at it until then.
    """
    log = (config.runs / LOGS / f"{job.id}.log").resolve()
    with kept_log(log), held(store, job):
        store.jobs.hold(job, {"log": str(log)})
        stage = stage_of(job, config)
        if isinstance(stage, Report):  # it waits for the device itself
            store.jobs.hold(job, {"result": report(stage)})
            return
        folder = getattr(stage, "resume", None) or getattr(stage, "out", None)
        if folder:
            store.jobs.hold(job, {"folder": str(folder.resolve())})
        with device_lock(default_device_name()):
            store.jobs.hold(job)
            if done_before(stage, job.kind, job):
                return
            if hasattr(stage, "resume"):
                stage = on_own_base(taken_up(stage, job.kind))
            if isinstance(stage, Select) and stage.prompts:
                left = stage.prompts - job.progress.get("prompts", 0)
                if left <= 0:
                    return
                stage = replace(stage, prompts=left)
            base = open_base(stage) if stage.needs_base() else None
            result = execute(stage, store, base, job)
            if not folder:  # a run's folder says what came of it
                store.jobs.hold(job, {"result": result})


def do_plan(config: "Worker", store: Store, job: Job) -> None:
    """What memory a stage would take: the job's progress has the plan as JSON and as text."""
    with held(store, job):
        wanted = Job(job.id, str(job.spec["stage"]), job.spec["options"])
        stage = stage_of(wanted, config)
        assert isinstance(stage, Stage), "A report has no memory plan."
        planned = plan(plan_of(stage, wanted.kind, float(job.spec["vram"]), open_study(store, stage.study).k))
        store.jobs.hold(job, {"plan": planned.as_json(), "text": plan_text.as_text(planned)})


def plan_of(stage: Stage, name: str, vram: float, k: int) -> Plan:
    """What to ask of the planner about a stage with these options; `k`: answers a comparison."""
    options = {field.name: getattr(stage, field.name) for field in fields(stage)}
    plain = Plan(
        model=stage.model, quantize=stage.quantize or default_quantization(default_device()), vram=vram,
        samples=options.get("samples", k), stages=(name,),  # type: ignore[arg-type]
        rank=options.get("rank", 16), checkpointing=options.get("checkpointing") or None,
        optimizer=options.get("optimizer", "adamw"), top_layers=options.get("top_layers"),
        members=members_of(stage.reward) if isinstance(stage, Ppo) and stage.reward else options.get("members", 1),
    )  # fmt: skip
    return replace(
        plain,
        response=options.get("max_new_tokens", plain.response),
        value=stage.value_in_memory() if isinstance(stage, Ppo) else None,
    )


@contextmanager
def kept_log(path: Path) -> Iterator[None]:
    """What is written to standard error goes to the file too; the logs of the oldest jobs go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    forget_logs(path.parent)
    with closing(JobLog(path)) as file, redirect_stderr(Both(sys.stderr, file)):
        yield


class JobLog(io.TextIOBase):
    """A log of at most twice LOG_BYTES: then it begins anew, and what was written before is in JOB.log.1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("a", encoding="utf-8")

    def write(self, text: str) -> int:
        """At its end."""
        if self.file.tell() > LOG_BYTES:
            self.file.close()
            self.path.replace(f"{self.path}.1")
            self.file = self.path.open("a", encoding="utf-8")
        return self.file.write(text)

    def flush(self) -> None:
        """Others may read it."""
        if not self.file.closed:
            self.file.flush()

    def close(self) -> None:
        """The job has ended."""
        self.file.close()
        super().close()


class Both(io.TextIOBase):
    """Writes to two files."""

    encoding = "utf-8"

    def __init__(self, *files: IO[str] | io.TextIOBase) -> None:
        self.files = files

    def write(self, text: str) -> int:
        """Each gets the text, at once."""
        for file in self.files:
            file.write(text)
            file.flush()
        return len(text)


@contextmanager
def held(store: Store, job: Job) -> Iterator[None]:
    """Heartbeats meanwhile, so that no other worker takes the job; then its end.

    Whatever goes wrong fails it with a sentence; stopped by a signal it goes back into the queue; one that was lost to
    another worker is left to that one.
    """
    lost = Event()
    try:
        with beating(store, job, lost), interruptible():
            yield
    except RankloopError as error:
        print(error, file=sys.stderr)
        store.jobs.finish(job, str(error))
    except (KeyboardInterrupt, JobLost) as error:
        if isinstance(error, KeyboardInterrupt) and not lost.is_set():
            store.jobs.release(job)
            raise
        print(f"Job {job.id} was cancelled or is another worker's now.", file=sys.stderr)
    except Exception as error:  # no memory, or a fault of this program: it costs the one job and is not tried again
        traceback.print_exc()
        store.jobs.finish(job, f"The stage failed ({type(error).__name__}: {error}); the worker's log says where.")
    else:
        store.jobs.finish(job)


@contextmanager
def interruptible() -> Iterator[None]:
    """An interruption stays one though a library made another error of it, as lazy imports do in the middle of a class."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause:
            raise KeyboardInterrupt from error
        raise


@contextmanager
def beating(store: Store, job: Job, lost: Event) -> Iterator[None]:
    """Heartbeats. If the job is no longer this worker's, `lost` is set and the main thread's work on it interrupted."""

    def beat(over: Event) -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            try:
                if not store.jobs.beat(job):
                    lost.set()
                    _thread.interrupt_main(STOP_JOB)  # SIGINT is ignored in what a shell runs in the background
                    break
            except sqlite3.Error:
                continue  # busy, or a full disk: the next beat may come through
        store.close()

    try:
        with beside(beat):
            yield
    finally:
        time.sleep(0)  # an interruption that is on its way arrives here and not later


def stage_of(job: Job, config: "Worker") -> Stage | Report:
    """The options a job asks for. Raises RankloopError for an unknown stage and for a wrong or missing option."""
    if job.kind not in KINDS:
        raise RankloopError(f"There is no stage {job.kind!r}; a job's kind is one of {', '.join(KINDS)}.")
    kind = KINDS[job.kind]
    hints = get_type_hints(kind)
    required = {field.name: field.default is MISSING for field in fields(kind) if field.name not in NOT_OF_JOBS}
    names = (*OWN, *OWN_SERVER) if issubclass(kind, Select) else OWN
    own = {name: getattr(config, name) for name in names if name in required}
    options: dict[str, Any] = {"db": config.db, **own}
    for name, value in job.spec.items():
        if name not in required:
            raise RankloopError(f"Stage {job.kind} has no option {name!r}.")
        options[name] = typed(name, value, hints[name])
    for name, needed in required.items():
        if needed and name not in options:
            raise RankloopError(f"Stage {job.kind} needs the option {name!r}.")
    return kind(**options)


def typed(name: str, value: Any, hint: Any) -> Any:
    """A JSON value as what the option takes: a text as a path, 1 as 1.0, a list as a tuple. Raises RankloopError."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise RankloopError(f"{name!r} must be a list, not {value!r}.")
        return tuple(typed(name, one, get_args(hint)[0]) for one in value)
    names = []
    for choice in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(choice) is Literal:
            if value in get_args(choice):
                return value
            names += [repr(word) for word in get_args(choice)]
            continue
        if type(value) is choice:
            return value
        if (choice, type(value)) in ((Path, str), (float, int)):
            return choice(value)
        names.append("None" if choice is type(None) else choice.__name__)
    raise RankloopError(f"{name!r} must be {' or '.join(names)}, not {value!r}.")
