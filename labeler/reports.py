"""Reports of PPO runs, as `trainer report` wrote them into the run's folder, in the browser."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from labeler.downloads import Owner
from preferences.errors import UnknownName
from preferences.records import Policy
from preferences.store import Store


def report_api(store: Store) -> APIRouter:
    """GET policies: those whose run has a report; GET policies/POLICY/report: the report."""
    api = APIRouter(prefix="/api/policies")

    @api.get("")
    def policies(_: Owner) -> list[dict[str, Any]]:
        return [{"id": one.id, "name": one.name} for one in store.policies.all()[::-1] if report_of(one)]

    @api.get("/{policy}/report")
    def report(policy: str, _: Owner) -> Response:
        path = report_of(store.policies.get(policy))
        if path is None:
            raise UnknownName("The run of this policy has no report; make one with `trainer report RUN`.")
        return HTMLResponse(path.read_text(encoding="utf-8"))

    return api


def report_of(policy: Policy) -> Path | None:
    """The report beside the policy's adapter, if there is one. The path is the trainer's, never a reader's."""
    if policy.kind != "ppo" or not policy.adapter:
        return None
    path = Path(policy.adapter).parent / "report" / "report.html"
    return path if path.is_file() else None
