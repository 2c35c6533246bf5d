"""Where policies come from, and the folders of their runs, for researchers and admins."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from labeler.downloads import Owner, attachment
from labeler.lineage import lineage_json
from labeler.packing import packed
from preferences.errors import UnknownName
from preferences.run_files import CHECKPOINTS
from preferences.store import Store


def lineage_api(store: Store) -> APIRouter:
    """GET lineage, runs/RUN/run.zip."""
    api = APIRouter(prefix="/api")

    @api.get("/lineage")
    def lineage(_: Owner) -> dict[str, Any]:
        return lineage_json(store)

    @api.get("/runs/{run}/run.zip", response_class=StreamingResponse)
    def folder(run: str, owner: Owner) -> StreamingResponse:
        found = store.runs.get(run)
        source = Path(found.folder)
        if not source.is_dir():
            raise UnknownName(f"The folder {source} is not there any more; put it back, or run its command once more.")
        name = f"{source.name}.zip"
        store.events.add(owner.id, "download", found.id, {"file": name})
        pieces = packed(source, left_out=[CHECKPOINTS])
        return StreamingResponse(pieces, media_type="application/zip", headers=attachment(name))

    return api
