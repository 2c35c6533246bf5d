"""What workers on other hosts ask and tell; the gate lets in whoever has a worker's token, to these routes alone."""

from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import FileResponse, Response
from pydantic import Field

from labeler.accounts import Forbidden
from labeler.bodies import Body, Text
from labeler.errands import BeatBody, ClaimBody, EffectsBody, EndBody, Errands, FilesBody
from labeler.stage_schemas import Stages
from labeler.uploads import MOST_BYTES, PIECE_BYTES, Hash
from preferences.disk import Disk
from preferences.errors import UnknownName
from preferences.jobs import Job, WorkerToken
from preferences.store import Store
from preferences.tables.jobs import BESIDE

WORKER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"


class About(Body):
    """What a worker is, and the options of the stages that can be launched on it."""

    model: Annotated[Text, Field(max_length=4096)]
    quantization: Annotated[Text, Field(max_length=16)]
    device: Annotated[Text, Field(max_length=64)]
    memory_gib: Annotated[float, Field(strict=False, allow_inf_nan=False)] | None
    threads: int | None
    stages: Stages


class MissingBody(Body):
    """Pieces of which the worker asks whether they have arrived."""

    pieces: Annotated[list[Hash], Field(max_length=MOST_BYTES // PIECE_BYTES)]


def worker_of(request: Request, x_rankloop_worker: Annotated[str, Header(pattern=WORKER_NAME)]) -> str:
    """The worker's own name behind its token's, so that no token can speak for another's worker."""
    token = getattr(request.state, "worker", None)
    if not isinstance(token, WorkerToken):
        raise Forbidden("This needs a worker's token.")
    return f"{token.name}/{x_rankloop_worker}"


WorkerName = Annotated[str, Depends(worker_of)]


def worker_api(store: Store, runs: Path, disk: Disk) -> APIRouter:
    """POST hello, seen, leave, claim; and what `add_job_routes` adds."""
    api = APIRouter(prefix="/api/worker")
    errands = Errands(store, runs, disk)
    add_job_routes(api, errands)

    @api.post("/hello")
    def hello(body: About, worker: WorkerName) -> dict[str, Any]:
        errands.sweep()
        said = body.model_dump(exclude_unset=True)
        stages = {name: schema for name, schema in said["stages"].items() if name not in BESIDE}
        store.workers.publish(worker, {**said, "stages": stages, "runs": str(errands.runs)})
        return {"runs": str(errands.runs), "piece_bytes": PIECE_BYTES}

    @api.post("/seen")
    def seen(worker: WorkerName) -> dict[str, Any]:
        store.workers.see(worker)
        return {}

    @api.post("/leave")
    def leave(worker: WorkerName) -> dict[str, Any]:
        store.jobs.give_back(worker)
        store.workers.leave(worker)
        return {}

    @api.post("/claim")
    def claim(body: ClaimBody, worker: WorkerName) -> dict[str, Any]:
        return {"job": errands.claim(worker, body)}

    return api


def add_job_routes(api: APIRouter, errands: Errands) -> None:
    """Below jobs/JOB, of a job in hand: GET store, files, file, POST missing, beat, effects, files, end and PUT pieces/HASH.

    Each is refused once the job is another worker's.
    """

    def in_hand(job: str, worker: WorkerName) -> Job:
        return errands.held(worker, job)

    Held = Annotated[Job, Depends(in_hand)]

    @api.get("/jobs/{job}/store", response_class=FileResponse)
    def lent(held: Held) -> FileResponse:
        return FileResponse(errands.lent(held), media_type="application/vnd.sqlite3")

    @api.get("/jobs/{job}/files")
    def files(held: Held) -> dict[str, Any]:
        return {"files": errands.files_json(held)}

    @api.get("/jobs/{job}/file", response_class=FileResponse)
    def file(path: str, held: Held) -> FileResponse:
        if Path(path) not in errands.files(held):
            raise UnknownName("This job needs no such file.")
        return FileResponse(path, media_type="application/octet-stream")

    @api.post("/jobs/{job}/missing")
    def missing(body: MissingBody, held: Held) -> dict[str, Any]:
        return {"missing": errands.pieces(held).missing(body.pieces)}

    @api.put("/jobs/{job}/pieces/{sha256}", status_code=204)
    async def piece(sha256: str, request: Request, held: Held) -> Response:
        await to_thread.run_sync(errands.pieces(held).add, sha256, await request.body())
        return Response(status_code=204)

    @api.post("/jobs/{job}/beat")
    def beat(body: BeatBody, held: Held) -> dict[str, Any]:
        return errands.beat(held, body)

    @api.post("/jobs/{job}/effects")
    def effects(body: EffectsBody, held: Held) -> dict[str, Any]:
        errands.effects(held, body)
        return {}

    @api.post("/jobs/{job}/files")
    def place(body: FilesBody, held: Held) -> dict[str, Any]:
        errands.place(held, body)
        return {}

    @api.post("/jobs/{job}/end")
    def end(body: EndBody, held: Held) -> dict[str, Any]:
        errands.end(held, body)
        return {}
