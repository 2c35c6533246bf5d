"""For whoever watches the server: GET /healthz (it lives) and /readyz (it can take answers). Both tell nothing else."""

import sqlite3
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from preferences.disk import Disk
from preferences.store import Store

WAIT_SECONDS = 3.0  # for others that write; then answers wait too long


def health_routes(store: Store, disk: Disk) -> APIRouter:
    """Open to everybody."""
    routes = APIRouter()
    place = file_of(store)

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz")
    def readyz() -> JSONResponse:
        found = readiness(store, disk, place)
        return JSONResponse(found, 200 if found["ready"] else 503)

    return routes


def readiness(store: Store, disk: Disk, place: tuple[int, int] | None) -> dict[str, Any]:
    """{"ready", "problems": of "database", "unwritable", "moved" and "disk_full", "warnings": of "disk_low"}.

    `place`: `file_of` the store when the server started.
    """
    problems, warnings = [], []
    if file_of(store) != place:
        problems.append("moved")
    try:
        store.studies.all()
        if disk.read_only() or not store.can_write(WAIT_SECONDS):
            problems.append("unwritable")
    except sqlite3.Error:
        problems.append("database")
    state = disk.state()
    if state == "full":
        problems.append("disk_full")
    elif state == "low":
        warnings.append("disk_low")
    return {"ready": not problems, "problems": problems, "warnings": warnings}


def file_of(store: Store) -> tuple[int, int] | None:
    """Which file the database's name leads to; None for none. Another one than at the start: what is stored is lost."""
    try:
        found = store.path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
