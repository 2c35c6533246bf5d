"""What study owners download: hours and rankings of a study, as they are at that moment."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, PlainTextResponse, Response
from starlette.background import BackgroundTask

from labeler.account import who
from labeler.accounts import OWNERS, with_role
from labeler.care import hours_csv
from preferences.disk import LOW_BYTES, Disk
from preferences.exchange.exporting import export
from preferences.exchange.views import Source
from preferences.records import Annotator, Study
from preferences.store import Store

TYPES = {".jsonl": "application/jsonl", ".zip": "application/zip"}


def owner(account: Annotated[Annotator, Depends(who)]) -> Annotator:
    """The account, if it may see whole studies. Raises Forbidden."""
    return with_role(account, OWNERS)


Owner = Annotated[Annotator, Depends(owner)]


def download_api(store: Store) -> APIRouter:
    """GET studies, studies/STUDY/hours.csv, studies/STUDY/rankings.jsonl, which is a zip file where there are pictures."""
    api = APIRouter(prefix="/api/studies")

    @api.get("")
    def studies(_: Owner) -> list[dict[str, Any]]:
        return [{"id": study.id, "name": study.name, "status": study.status} for study in store.studies.all()]

    @api.get("/{study}/hours.csv", response_class=FileResponse)
    def hours(study: str, owner: Owner) -> Response:
        found = store.studies.get(study)
        text = hours_csv(store, found)
        store.events.add(owner.id, "download", found.id, {"file": "hours.csv"})
        return PlainTextResponse(text, media_type="text/csv", headers=attachment("hours.csv"))

    @api.get("/{study}/rankings.jsonl", response_class=FileResponse)
    def rankings(study: str, owner: Owner) -> Response:
        found = store.studies.get(study)
        check_room()
        folder = tempfile.TemporaryDirectory(prefix="rankloop-")
        try:
            path = ranked_file(store, found, Path(folder.name))
        except BaseException:
            folder.cleanup()
            raise
        store.events.add(owner.id, "download", found.id, {"file": path.name})
        done = BackgroundTask(folder.cleanup)
        return FileResponse(path, media_type=TYPES[path.suffix], headers=attachment(path.name), background=done)

    return api


def check_room() -> None:
    """Raises NoRoom where files are made that somebody downloads, before one takes what others need."""
    folder = Path(tempfile.gettempdir())
    Disk(folder, min(LOW_BYTES, shutil.disk_usage(folder).total // 10)).check()


def ranked_file(store: Store, study: Study, folder: Path) -> Path:
    """rankings.jsonl of the study, or rankings.zip with it and the pictures that its prompts show."""
    inside = folder / "rankings"
    inside.mkdir()
    path = inside / "rankings.jsonl"
    if "images" not in export(Source.of(store, study, None), "rankings", path):
        return path
    return Path(shutil.make_archive(str(folder / "rankings"), "zip", inside))


def attachment(name: str) -> dict[str, str]:
    """The header that makes a browser save the answer under that name, whatever is in it (RFC 6266)."""
    plain = quote(name, errors="surrogateescape")
    said = f'filename="{name}"' if plain == name else f"filename*=UTF-8''{plain}"
    return {"Content-Disposition": f"attachment; {said}"}
