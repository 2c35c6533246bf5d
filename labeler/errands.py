"""Jobs that workers on other hosts do: what each is lent, and what comes of it.

What a job needs and what it sends lies in a folder beside the database until the job ends. The run's own folder is where a
worker on this host would have it, so that pages, promotions and downloads find it there.
"""

import base64
import binascii
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from pydantic import Field

from labeler.bodies import Body, Text
from labeler.effects import read_effects, run_folder, store_effects
from labeler.outcomes import Progress, checked_progress
from labeler.run_documents import checked_document, write_document
from labeler.uploads import RUN_FILES, Pieces, Sent, SentFile
from preferences.backups import sha256_of
from preferences.disk import Disk
from preferences.errors import BadUpload, NotHeld, RankloopError
from preferences.jobs import Job
from preferences.logs import note
from preferences.records import Study
from preferences.run_files import CONFIG, LOGS, config_of, forget_logs
from preferences.shortage import is_short
from preferences.store import Store
from preferences.tables.jobs import BESIDE, DEATHS, OWN_PROMPT, PLAN, STALE_SECONDS, TOP_UP, JobLost
from preferences.tables.lent import Loan

PATHS = ("out", "resume", "reward", "adapter")  # options that are folders of this host
MOST_TAIL_BYTES = 1 << 30  # of a file that grows
RUNS = ("sft", "reward", "ppo")
LOANS = {
    "ppo": Loan(split="train"), "evaluate": Loan(split="heldout", answers=True),
    "reward": Loan(answers=True, rankings=True), "check": Loan(answers=True, rankings=True),
}  # fmt: skip


class ClaimBody(Body):
    """What a worker without work would do. `prompts`: how many it answers when comparisons run short; `waiting`: how many
    are to wait for each annotator; `study`: which one it keeps supplied."""

    waiting: Annotated[int, Field(ge=0, le=1000)]
    prompts: Annotated[int, Field(ge=1, le=10_000)]
    study: Annotated[Text, Field(max_length=200)] | None = None


class Tail(Body):
    """The end of a file that grows: what stands from `offset` on."""

    name: Literal["metrics.jsonl", "samples.jsonl", "log"]
    offset: Annotated[int, Field(ge=0)]
    data: Annotated[str, Field(max_length=200_000)]

    def bytes(self) -> bytes:
        """`data` is base64, since a piece may end within a character. Raises BadUpload."""
        try:
            return base64.b64decode(self.data, validate=True)
        except binascii.Error as error:
            raise BadUpload("The end of a file is not base64.") from error


class BeatBody(Body):
    """The worker lives, and this is how far it is. `document`: the run's config.json."""

    progress: Progress = Progress()
    tails: Annotated[list[Tail], Field(max_length=3, default_factory=list)]
    document: dict[str, Any] | None = None


class EffectsBody(Body):
    """What was made, as a document that has arrived in pieces, and how far the job is with it."""

    document: Sent
    progress: Progress = Progress()


class FilesBody(Body):
    """Files of the run, all of whose pieces have arrived."""

    files: Annotated[list[SentFile], Field(max_length=1000)]


class EndBody(Body):
    """queued: the worker stops before it is done."""

    status: Literal["done", "failed", "queued"]
    error: Annotated[Text, Field(max_length=4000)] = ""


class Errands:
    """`runs`: where run folders are on this host."""

    def __init__(self, store: Store, runs: Path, disk: Disk) -> None:
        self.store = store
        self.runs = runs.resolve()
        self.disk = disk
        self.folder = store.path.resolve().with_name(f"{store.path.name}.errands")
        self._making = Lock()  # of a database that is lent: who was cut off asks again while it is made

    def claim(self, worker: str, body: ClaimBody) -> Job | None:
        """The next job, as the worker reads it, or None; if there is none but comparisons run short, that is one.

        None while there is too little room for what it would send.
        """
        if self.disk.state() != "ok":
            return None
        job = self._take(worker)
        study = self._short(body) if job is None else None
        if study:
            with self.store.write():
                if self._ask_for_more(study, body.prompts):
                    job = self._take(worker)
        return job and self.for_worker(job)

    def _take(self, worker: str) -> Job | None:
        """The oldest job that nobody has; where its run and its log are is known from now on."""
        store = self.store
        with store.write():
            job = store.jobs.claim(worker, STALE_SECONDS, BESIDE)
            if job is None:
                return None
            if job.kind != TOP_UP:
                store.events.add("", "job claimed", job.id, {"worker": worker})
            out = self.out_of(job)
            places = {"log": str(self.log_of(job)), **({"folder": str(out)} if out else {})}
            store.jobs.hold(job, places)
        with self._making:
            (self.folder / job.id / "lent.db").unlink(missing_ok=True)
        return store.jobs.get(job.id)

    def for_worker(self, job: Job) -> Job:
        """With folders by their whole paths, and without what is between the labeler and its pages."""
        spec = {name: value for name, value in job.spec.items() if name != "nonce"}
        for name in PATHS:
            if spec.get(name) is not None:
                spec[name] = str(Path(spec[name]).resolve())
        progress = {name: value for name, value in job.progress.items() if name not in ("log", "folder", DEATHS)}
        return Job(
            job.id, job.kind, spec, job.status, progress, job.worker, job.heartbeat, "", job.created, job.started
        )

    def held(self, worker: str, ident: str) -> Job:
        """The job, if the worker has it. Raises NotHeld."""
        job = self.store.jobs.get(ident)
        if (job.status, job.worker) != ("running", worker):
            raise NotHeld("This job was stopped, or another worker has it now; leave it alone.")
        return job

    def sweep(self) -> None:
        """What jobs needed or sent that were stopped meanwhile goes, and the oldest logs."""
        forget_logs(self.runs / LOGS)
        alive = {job.id for job in self.store.jobs.all() if job.status in ("queued", "running")}
        for place in self.folder.glob("*"):
            if place.name not in alive:
                shutil.rmtree(place, ignore_errors=True)

    # -- what is lent ------------------------------------------------------------------------------------------------

    def lent(self, job: Job) -> Path:
        """The database that is lent for the job; made once for each time that somebody takes it."""
        path = self.folder / job.id / "lent.db"
        with self._making:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                new = path.with_name("new.db")
                for left in path.parent.glob("new.db*"):
                    left.unlink()
                self.store.lent.fill(new, self.study_of(job), self.loan(job), self.for_worker(job))
                new.replace(path)
        return path

    def study_of(self, job: Job) -> Study:
        """Whose prompts, answers and rankings the job works with."""
        name = job.spec["options"].get("study") if job.kind == PLAN else job.spec.get("study")
        return self.store.studies.get(name) if name else self.store.studies.default()

    def loan(self, job: Job) -> Loan:
        """What it needs of them."""
        if job.kind == OWN_PROMPT:
            return Loan([job.spec["prompt"]], answers=True, annotator=job.spec["annotator"])
        if job.kind in (TOP_UP, "sample"):
            return Loan(job.spec["prompts"] if job.kind == TOP_UP else self.waiting(job), answers=True)
        return LOANS.get(job.kind, Loan([]))

    def waiting(self, job: Job) -> list[str]:
        """The prompts from which a sample job chooses."""
        wanted = job.spec.get("prompts")
        all_ = wanted is None or job.spec.get("select", "none") != "none"
        left = 10**9 if all_ else max(0, wanted - job.progress.get("prompts", 0))
        return [prompt.id for prompt in self.store.studies.prompts_without_comparison(self.study_of(job), left)]

    def adapters(self, job: Job) -> list[Path]:
        """Folders of adapters that the job loads."""
        spec, store = job.spec, self.store
        names = [spec[name] for name in ("start", "reference", "against") if spec.get(name)]
        chosen = [store.policies.get(name) for name in [*names, *spec.get("also", [])]]
        if job.kind == "evaluate":
            adapter = str(Path(spec["adapter"]).resolve())
            chosen += [policy for policy in store.policies.all() if policy.adapter == adapter]
        elif job.kind in ("sample", TOP_UP, OWN_PROMPT, "ppo"):
            chosen += store.studies.sampling_policies(self.study_of(job))
        if job.kind in ("evaluate", "ppo"):  # what they come from may be what they are held against
            chosen += [ancestor for policy in chosen for ancestor in store.policies.line(policy)]
        reward = [Path(spec["reward"]).resolve()] if spec.get("reward") else []
        return [*dict.fromkeys(Path(policy.adapter) for policy in chosen if policy.adapter), *reward]

    def files(self, job: Job) -> list[Path]:
        """Their files: of the names that an adapter has, and of no others."""
        return [
            path
            for folder in self.adapters(job)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink() and RUN_FILES.fullmatch(f"adapter/{path.relative_to(folder)}")
        ]

    def files_json(self, job: Job) -> list[dict[str, Any]]:
        """[{"path", "size", "sha256"}]."""
        found = []
        for path in self.files(job):
            found.append({"path": str(path), "size": path.stat().st_size, "sha256": sha256_of(path)})
        return found

    # -- what comes back ---------------------------------------------------------------------------------------------

    def pieces(self, job: Job) -> Pieces:
        """What has arrived for it."""
        return Pieces(self.folder / job.id / "pieces", self.disk)

    def out_of(self, job: Job) -> Path | None:
        """The job's run folder."""
        return run_folder(job) if job.kind in RUNS else None

    def log_of(self, job: Job) -> Path:
        """Where what its worker prints is kept."""
        return self.runs / LOGS / f"{job.id}.log"

    def beat(self, job: Job, body: BeatBody) -> dict[str, Any]:
        """{"sizes"}: how long each file is now of which an end was sent."""
        with holding():
            self.store.jobs.hold(job, checked_progress(self.store, job, body.progress))
        out = self.out_of(job)
        if body.document is not None and out:
            write_document(out / CONFIG, checked_document(self.store, job, out, self.study_of(job), body.document))
        return {"sizes": {tail.name: self._grow(job, out, tail) for tail in body.tails if out or tail.name == "log"}}

    def effects(self, job: Job, body: EffectsBody) -> None:
        """Store what was made, with the job's progress, or nothing of it."""
        effects = read_effects(self.pieces(job).document(body.document))
        with holding(), self.store.write():
            more = store_effects(self.store, job, self.study_of(job), effects)
            self.store.jobs.hold(job, {**checked_progress(self.store, job, body.progress), **more})

    def place(self, job: Job, body: FilesBody) -> None:
        """Put files into the run's folder."""
        out = self.out_of(job)
        if out is None:
            raise BadUpload("This job has no run folder.")
        for file in body.files:
            self.pieces(job).place(file, out)

    def end(self, job: Job, body: EndBody) -> None:
        """The job is done, has failed, or waits again; and its run is known."""
        store, out = self.store, self.out_of(job)
        document = config_of(out) if out else None
        with store.write():
            if out and document:
                store.runs.note(str(out), document, document.get("study"))
            if body.status == "queued":
                store.jobs.release(job)
            else:
                store.jobs.finish(job, (body.error or "The worker did not say why.") if body.status == "failed" else "")
        if body.status != "queued":
            shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def _short(self, body: ClaimBody) -> Study | None:
        """The study that the worker keeps supplied, if its annotators will soon have nothing to rank."""
        store = self.store
        try:
            study = store.studies.get(body.study) if body.study else store.studies.default()
        except RankloopError as error:
            note("top_up", logging.WARNING, error)
            return None
        return study if study.status == "active" and is_short(store, study, body.waiting) else None

    def _ask_for_more(self, study: Study, count: int) -> bool:
        """Queue so many of its prompts to be answered, none that others are answering; whether there are any."""
        store = self.store
        under_way = {
            ident
            for job in store.jobs.all()
            if job.kind == TOP_UP and job.status in ("queued", "running")
            for ident in job.spec["prompts"]
        }
        prompts = store.studies.least_compared_prompts(study, count + len(under_way))
        chosen = [prompt.id for prompt in prompts if prompt.id not in under_way][:count]
        if not chosen:
            return False
        store.jobs.forget(TOP_UP)
        store.jobs.add(TOP_UP, {"study": study.id, "prompts": chosen})
        return True

    def _grow(self, job: Job, out: Path | None, tail: Tail) -> int:
        """Put the end where it belongs, in the place of what stood there; how long the file is then.

        If something before it has not arrived, nothing happens, and the worker sends that. Raises NoRoom, BadUpload.
        """
        path = self.log_of(job) if tail.name == "log" or out is None else out / tail.name
        data = tail.bytes()
        if data:
            self.disk.check()
        if tail.offset + len(data) > MOST_TAIL_BYTES:
            raise BadUpload(f"A run's {tail.name} has at most {MOST_TAIL_BYTES >> 30} GiB.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as file:
            size = file.seek(0, 2)
            if tail.offset > size:
                return size
            file.seek(tail.offset)
            file.truncate()
            return tail.offset + file.write(data)


@contextmanager
def holding() -> Iterator[None]:
    """Who has lost the job hears it as every other mistake."""
    try:
        yield
    except JobLost as error:
        raise NotHeld("This job was stopped, or another worker has it now; leave it alone.") from error
