"""Reports of reward and PPO runs, as `trainer report` wrote them into the run's folder, in the browser."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from labeler.downloads import Owner
from preferences.errors import UnknownName
from preferences.jobs import KnownRun
from preferences.store import Store


def report_api(store: Store) -> APIRouter:
    """GET reports: the runs that have one, the newest first; GET runs/RUN/report: the report."""
    api = APIRouter(prefix="/api")

    @api.get("/reports")
    def reports(_: Owner) -> list[dict[str, Any]]:
        found = [run for run in store.runs.all()[::-1] if report_of(run)]
        return [{"run": run.id, "name": f"{Path(run.folder).name} ({run.stage})"} for run in found]

    @api.get("/runs/{run}/report", response_class=Response)
    def report(run: str, owner: Owner) -> Response:
        path = report_of(store.runs.get(run))
        if path is None:
            raise UnknownName(
                "This run has no report; make one with Report on the Training page, or `trainer report RUN`."
            )
        store.events.add(owner.id, "report read", run, {})
        return HTMLResponse(path.read_text(encoding="utf-8"))

    return api


def report_of(run: KnownRun) -> Path | None:
    """The report in the run's folder, if there is one. The path is the trainer's, never a reader's."""
    path = Path(run.folder) / "report" / "report.html"
    return path if path.is_file() else None
