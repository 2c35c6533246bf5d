"""The labeler on another host, as a worker speaks to it: over HTTP, with a token, again after every break."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from preferences.backups import sha256_of
from preferences.beside import beside
from preferences.errors import NotHeld, RankloopError
from preferences.jobs import Job
from trainer.patience import Patience

FOR_EVER = Patience(1e9, told=partial(print, file=sys.stderr, flush=True))  # what was computed is worth waiting for
AT_ONCE = Patience(0.0)  # a heartbeat: the next one comes soon
SHORTLY = Patience(10.0)  # somebody wants this worker to stop
SECONDS = 60.0
SEEN_SECONDS = 5.0


class BadToken(RankloopError):
    """The labeler does not know the token, or it was revoked."""


def read_token(path: Path) -> str:
    """The first line of the file. Raises BadToken."""
    try:
        token = path.read_text(encoding="ascii").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadToken(f"{path} holds no token ({error}); `labeler worker-token add` makes one.") from error
    if not token:
        raise BadToken(f"{path} holds no token; `labeler worker-token add` makes one.")
    return token


class FarLabeler:
    """One worker's connection, for all its threads. `runs`, `piece_bytes`: known after `hello`."""

    def __init__(self, url: str, token: str, name: str) -> None:
        try:
            self.client = httpx.Client(
                base_url=f"{url.rstrip('/')}/api/worker/", timeout=httpx.Timeout(SECONDS, connect=5.0),
                headers={"Authorization": f"Bearer {token}", "X-Rankloop-Worker": name},
            )  # fmt: skip
        except (httpx.InvalidURL, ValueError) as error:
            raise RankloopError(
                f"{url!r} is no address ({error}); give it as a browser shows it, with https:// in front."
            ) from error
        if self.client.base_url.scheme not in ("http", "https"):
            raise RankloopError(f"{url!r} is no address; give it as a browser shows it, with https:// in front.")
        self.runs = ""
        self.piece_bytes = 0

    @contextmanager
    def known(self, about: dict[str, Any]) -> Iterator[None]:
        """The labeler knows meanwhile that this worker is alive, and what it can do."""
        said = self._post("hello", {key: value for key, value in about.items() if key != "runs"})
        self.runs, self.piece_bytes = str(said["runs"]), int(said["piece_bytes"])

        def beat(over: Event) -> None:
            while not over.wait(SEEN_SECONDS):
                with suppress(RankloopError):
                    self._post("seen", {}, AT_ONCE)

        try:
            with beside(beat):
                yield
        finally:
            with suppress(RankloopError):
                self._post("leave", {}, AT_ONCE)
            self.client.close()

    def claim(self, waiting: int, prompts: int, study: str | None) -> Job | None:
        """The next job, or None. Raises BadToken."""
        job = self._post("claim", {"waiting": waiting, "prompts": prompts, "study": study})["job"]
        return Job(**{field.name: job[field.name] for field in fields(Job)}) if job else None

    # -- what a job needs --------------------------------------------------------------------------------------------

    def files(self, job: Job) -> list[dict[str, Any]]:
        """[{"path", "size", "sha256"}] of the adapters that it loads."""
        return list(self._ask("GET", f"jobs/{job.id}/files").json()["files"])

    def fetch_store(self, job: Job, path: Path) -> None:
        """The database that is lent for it."""
        self._fetch(f"jobs/{job.id}/store", {}, path)

    def fetch_file(self, job: Job, name: str, sha256: str, path: Path) -> None:
        """One of the files. Raises RankloopError if it arrives as another one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        self._fetch(f"jobs/{job.id}/file", {"path": name}, part)
        if file_hash(part) != sha256:
            part.unlink()
            raise RankloopError(f"{name} changed while it was fetched; start the job again.")
        part.replace(path)

    def _fetch(self, address: str, query: dict[str, str], path: Path) -> None:
        """What is there, from where an earlier try was cut off: the answer's ETag says whether it is still the same."""
        path.unlink(missing_ok=True)
        tag: list[str] = []

        def once() -> httpx.Response:
            done = path.stat().st_size if path.exists() else 0
            headers = {"Range": f"bytes={done}-", "If-Range": tag[0]} if done and tag else {}
            with self.client.stream("GET", address, params=query, headers=headers) as answer:
                if answer.status_code == 416:  # all of it had come, and then the connection broke
                    path.unlink(missing_ok=True)
                    raise httpx.ReadError("it is fetched again")
                if answer.status_code not in (200, 206):
                    answer.read()
                    return answer
                tag[:] = [answer.headers["etag"]]
                with path.open("ab" if answer.status_code == 206 else "wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                return answer

        self._checked(FOR_EVER.ask(once))

    # -- what it makes -----------------------------------------------------------------------------------------------

    def beat(self, job: Job, body: dict[str, Any], patience: Patience) -> dict[str, int]:
        """It is alive and this far; how long the files of which an end was sent are there. Raises NotHeld."""
        return dict(self._post(f"jobs/{job.id}/beat", body, patience)["sizes"])

    def give_effects(self, job: Job, effects: dict[str, Any], progress: dict[str, Any], patience: Patience) -> None:
        """What was made, and how far the job is with it: all of it arrives or nothing does."""
        data = json.dumps(effects, ensure_ascii=False).encode()
        pieces = [data[at : at + self.piece_bytes] for at in range(0, len(data), self.piece_bytes)]
        sent = self._send_pieces(job, pieces, patience)
        self._post(f"jobs/{job.id}/effects", {"document": sent, "progress": progress}, patience)

    def give_file(self, job: Job, name: str, path: Path, patience: Patience) -> None:
        """A file of the run's folder."""
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(self.piece_bytes), b"")
            sent = {"name": name, **described(pieces)}
        missing = set(self._missing(job, sent["pieces"], patience))
        with path.open("rb") as file:
            for sha256 in sent["pieces"]:
                piece = file.read(self.piece_bytes)
                if sha256 in missing:
                    self._ask("PUT", f"jobs/{job.id}/pieces/{sha256}", patience, content=piece)
        self._post(f"jobs/{job.id}/files", {"files": [sent]}, patience)

    def end(self, job: Job, status: str, error: str, patience: Patience) -> None:
        """The job is done, has failed, or is queued again."""
        self._post(f"jobs/{job.id}/end", {"status": status, "error": error[:4000]}, patience)

    def _send_pieces(self, job: Job, pieces: Sequence[bytes], patience: Patience) -> dict[str, Any]:
        sent = described(pieces)
        missing = set(self._missing(job, sent["pieces"], patience))
        for sha256, piece in zip(sent["pieces"], pieces, strict=True):
            if sha256 in missing:
                self._ask("PUT", f"jobs/{job.id}/pieces/{sha256}", patience, content=piece)
        return sent

    def _missing(self, job: Job, pieces: Sequence[str], patience: Patience) -> list[str]:
        return list(self._post(f"jobs/{job.id}/missing", {"pieces": pieces}, patience)["missing"])

    def _post(self, address: str, body: dict[str, Any], patience: Patience = FOR_EVER) -> dict[str, Any]:
        return dict(self._ask("POST", address, patience, json=body).json())

    def _ask(self, method: str, address: str, patience: Patience = FOR_EVER, **more: Any) -> httpx.Response:
        return self._checked(patience.ask(lambda: self.client.request(method, address, **more)))

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        """The answer. Raises NotHeld, BadToken, RankloopError with what the labeler says."""
        if answer.is_success:
            return answer
        try:
            said = answer.json()
            sentence, code = str(said["error"]), str(said["code"])
        except (ValueError, KeyError, TypeError):
            sentence, code = (
                f"The server at {self.client.base_url} is no labeler, or an older one ({answer.status_code}).",
                "",
            )
        if code == "not_held":
            raise NotHeld(sentence)
        if answer.status_code == 401:
            raise BadToken(
                "The labeler does not know this token, or it was revoked; `labeler worker-token add` makes another."
            )
        raise RankloopError(sentence)


def described(pieces: Any) -> dict[str, Any]:
    """{"sha256", "size", "pieces"} of what the pieces make up."""
    digest, size, hashes = hashlib.sha256(), 0, []
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        hashes.append(hashlib.sha256(piece).hexdigest())
    return {"sha256": digest.hexdigest(), "size": size, "pieces": hashes}


def file_hash(path: Path) -> str | None:
    """SHA-256 of a file, or None if there is none."""
    try:
        return sha256_of(path)
    except OSError:
        return None
