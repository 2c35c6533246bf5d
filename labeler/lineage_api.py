"""Where policies come from, and the folders of their runs, for researchers and admins."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from labeler.downloads import Owner, attachment
from labeler.lineage import lineage_json
from preferences.errors import UnknownName
from preferences.store import Store


def lineage_api(store: Store) -> APIRouter:
    """GET lineage, runs/RUN/run.zip."""
    api = APIRouter(prefix="/api")

    @api.get("/lineage")
    def lineage(_: Owner) -> dict[str, Any]:
        return lineage_json(store)

    @api.get("/runs/{run}/run.zip")
    def folder(run: str, _: Owner) -> FileResponse:
        source = Path(store.runs.get(run).folder)
        if not source.is_dir():
            raise UnknownName(f"The folder {source} is not there any more; put it back, or run its command once more.")
        temporary = tempfile.TemporaryDirectory(prefix="rankloop-")
        try:
            path = packed(source, Path(temporary.name) / f"{source.name}.zip")
        except BaseException:
            temporary.cleanup()
            raise
        done = BackgroundTask(temporary.cleanup)
        return FileResponse(path, media_type="application/zip", headers=attachment(path.name), background=done)

    return api


def packed(source: Path, target: Path) -> Path:
    """The folder as a zip file; links are left out, since they may lead out of it. Weights do not get smaller by packing."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file() and path.resolve().is_relative_to(source.resolve()):
                archive.write(path, Path(source.name) / path.relative_to(source))
    return target
