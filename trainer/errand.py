"""One job of a labeler on another host: what it needs comes, the stage runs on that as on any database, what it makes goes.

Folders of the labeler's host lie here below one folder, at the paths that they have there. So an adapter that came, or was
trained here, is found again by the next job, and what is sent has only that beginning taken off its paths.
"""

import base64
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from typing import Any

from preferences.beside import beside
from preferences.errors import NotHeld, NotReady, RankloopError
from preferences.jobs import Job
from preferences.run_files import LOGS, METRICS, SAMPLES, config_of
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT
from preferences.tables.lent import Added
from trainer.far_labeler import AT_ONCE, FOR_EVER, SHORTLY, BadToken, FarLabeler, file_hash
from trainer.patience import Patience, Unreachable
from trainer.runs import Run

PATHS = ("out", "resume", "reward", "adapter")  # options that are folders of the labeler's host
BEAT_SECONDS = 3.0
TAIL_BYTES = 96 * 1024
RUNS = ("sft", "reward", "ppo")  # what these make goes when the run's files are there; what others make, at once
PROGRESS = ("prompts", "answers", "of", "plan", "text", "result")
FILES = ("adapter/**/*", "snapshots/*/*")
SENT_SUFFIXES = (".json", ".safetensors")


class Errand:
    """`home`: this worker's folder. Raises RankloopError if what comes is not what was said."""

    def __init__(self, labeler: FarLabeler, job: Job, home: Path) -> None:
        self.labeler = labeler
        self.root = str(home.resolve() / "host")
        self.folder = home.resolve() / "jobs" / job.id
        self.job = replace(job, spec=self.here(job.spec, PATHS))
        self.store = self._fetched(job)
        out = self.job.spec.get("out") or self.job.spec.get("resume")
        self.out = Path(out) if out else None
        self.log = Path(self.root + labeler.runs) / LOGS / f"{job.id}.log"
        self.sizes = {METRICS: 0, SAMPLES: 0, "log": 0}  # of what has arrived of each file that grows
        self.document: dict[str, Any] | None = None
        self.mark = self.store.lent.mark()
        self.comparisons = 0  # that have arrived
        if self.out:
            self._reopen(self.out)

    def here(self, options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        """Paths of the labeler's host as paths of this one."""
        return {name: self.root + value if name in names and value else value for name, value in options.items()}

    def there(self, value: Any) -> Any:
        """What was made here with the paths of the labeler's host, however deep they stand in it; without what is no number,
        which JSON does not know."""
        if isinstance(value, dict):
            return {self.there(key): self.there(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.there(one) for one in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value.replace(f"{self.root}/", "/").replace(f"{self.folder}/", "") if isinstance(value, str) else value

    def _fetched(self, job: Job) -> Store:
        """The lent database, with the adapters that the job loads in their places."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.labeler.fetch_store(job, self.folder / "lent.db")
        for file in self.labeler.files(job):
            path = self.place_of(file["path"])
            if file_hash(path) != file["sha256"]:
                self.labeler.fetch_file(job, file["path"], file["sha256"], path)
        store = Store(self.folder / "lent.db")
        store.lent.place(self.root)
        store.lent.adopt(replace(self.job, heartbeat=store.clock()))
        return store

    def place_of(self, path: str) -> Path:
        """Where a file of the labeler's host is here. Raises RankloopError if that would be elsewhere."""
        place = Path(self.root + path).resolve()
        if not path.startswith("/") or not place.is_relative_to(self.root):
            raise RankloopError(f"The labeler offers a file at {path!r}, which is no place for one.")
        return place

    @staticmethod
    def _reopen(out: Path) -> None:
        """A run that ended here before the labeler heard of it ends again, from its last checkpoint: nothing is lost."""
        document = config_of(out)
        if document and document.get("state") == "finished":
            Run(out).restart()

    # -- what goes ---------------------------------------------------------------------------------------------------

    @contextmanager
    def under_way(self) -> Iterator[Job]:
        """Heartbeats, ends of files and answers go meanwhile; all that is left, at the end. Nothing goes of a lost job."""

        def tell(over: Event) -> None:
            while not over.wait(BEAT_SECONDS):
                try:
                    self.tell(AT_ONCE)
                except (NotHeld, BadToken):
                    self._give_up()
                    break
                except Unreachable:
                    continue
                except RankloopError as error:  # the labeler refuses it: said again, by the main thread, at the end
                    print(error, file=sys.stderr)
            self.store.close()

        try:
            with beside(tell):
                yield self.store.jobs.get(self.job.id)
        except KeyboardInterrupt:
            with suppress(RankloopError):
                self.finish(SHORTLY)
            raise
        self.finish(FOR_EVER)

    def tell(self, patience: Patience) -> None:
        """How far the job is, and what it has made since the last time."""
        with self.store.snapshot():
            progress = self._progress(self.store.jobs.get(self.job.id))
            mark = self.store.lent.mark()
            added = self.store.lent.added(self.mark)
        if added and self.job.kind not in RUNS:
            self.labeler.give_effects(self.job, self._effects(added), progress, patience)
            self.mark = mark
            self.comparisons += len(added.comparisons)
        while True:
            tails, document = self._tails(), self._new_document()
            body = {"progress": progress, "tails": tails, **({"document": document} if document else {})}
            sizes = self.labeler.beat(self.job, body, patience)
            self.document = document or self.document
            self.sizes.update(sizes)
            if not any(len(tail["data"]) >= TAIL_BYTES or sizes[tail["name"]] < tail["offset"] for tail in tails):
                return

    def finish(self, patience: Patience) -> None:
        """All that is left, and how the job ended."""
        try:
            job = self.store.jobs.get(self.job.id)
            if job.status == "cancelled":
                return
            self.sizes = dict.fromkeys(self.sizes, 0)  # a resumed run may have dropped lines that have arrived
            try:
                self.tell(patience)
                if job.status == "done":
                    self._give_run(patience)
                status, error = job.status, job.error
            except (Unreachable, NotHeld, BadToken):
                raise
            except RankloopError as refused:
                status, error = "failed", f"The labeler took nothing of it: {refused}"
            self.labeler.end(self.job, "queued" if status == "running" else status, error, patience)
        except NotHeld as error:
            print(error, file=sys.stderr)
        finally:
            self.store.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _give_run(self, patience: Patience) -> None:
        """The run's files first, then the policies that are found in them."""
        if self.out:
            for path in sorted(path for pattern in FILES for path in self.out.glob(pattern)):
                if path.is_file() and path.suffix in SENT_SUFFIXES:
                    self.labeler.give_file(self.job, str(path.relative_to(self.out)), path, patience)
        added = self.store.lent.added(self.mark)
        if added:
            progress = self._progress(self.store.jobs.get(self.job.id))
            self.labeler.give_effects(self.job, self._effects(added), progress, patience)

    def _give_up(self) -> None:
        """The job's own heartbeat finds that it is not its any more, and interrupts the stage."""
        with suppress(NotReady):
            self.store.jobs.stop(self.job, "")

    def _progress(self, job: Job) -> dict[str, Any]:
        return {name: self.there(job.progress[name]) for name in PROGRESS if name in job.progress}

    def _new_document(self) -> dict[str, Any] | None:
        """The run's config.json, if it says something new."""
        found = self.there(config_of(self.out)) if self.out else None
        return found if found != self.document else None

    def _tails(self) -> list[dict[str, Any]]:
        """The ends of files that have not arrived, of each a part."""
        found = []
        for name, size in self.sizes.items():
            path = self.log if name == "log" else self.out / name if self.out else None
            if path is None or not path.is_file():
                continue
            with path.open("rb") as file:
                start = min(size, path.stat().st_size)  # a resumed run has dropped what came after its checkpoint
                file.seek(start)
                data = file.read(TAIL_BYTES)
            if data or start != size:
                found.append({"name": name, "offset": start, "data": base64.b64encode(data).decode()})
        return found

    def _effects(self, added: Added) -> dict[str, Any]:
        """As the labeler reads it."""
        own = self.job.kind == OWN_PROMPT
        return {
            "policies": [self.there(without(asdict(policy), "created")) for policy in added.policies],
            "responses": [
                {**without(asdict(one), "id", "created"), "provenance": added.provenance.get(one.id, {})}
                for one in added.responses
            ],
            "comparisons": [
                {"prompt": one.prompt, "responses": list(one.same), "origin": "own prompt" if own else one.origin}
                for one in added.comparisons
            ],
            "sampling": added.sampling,
            "scores": self.there(added.scores),
            "spot_checks": [
                {name: row[name] for name in ("response", "kind", "value", "baseline")} for row in added.spot_checks
            ],
        }


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """The others."""
    return {name: value for name, value in row.items() if name not in names}
