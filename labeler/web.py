"""The labeler without its pages: login, ranking API, and the guards that stand before everything."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware

from labeler.accounts import OWNERS, Logins
from labeler.api import ranking_api
from labeler.changes import by_changes, pace_of_changes
from labeler.consent import consent_api
from labeler.description import description_routes
from labeler.downloads import download_api
from labeler.events import Events, Inputs
from labeler.failures import add_failures
from labeler.gate import Gate
from labeler.health import health_routes
from labeler.images import image_api
from labeler.join import join_routes
from labeler.lineage_api import lineage_api
from labeler.login import login_routes
from labeler.own_prompts import own_prompt_api
from labeler.pace import Pace
from labeler.past import history_api
from labeler.promotions import promotion_api
from labeler.proxy import Proxied, Rooted
from labeler.rendering import Rendering
from labeler.replies import Failure
from labeler.reports import report_api
from labeler.security import RequestGuard, SecureHeaders
from labeler.settings import Settings
from labeler.study_api import study_api
from labeler.throttle import Throttle, by_account, by_address
from labeler.training_api import training_api
from labeler.uploads import PIECE_BYTES
from labeler.visits import Visits
from labeler.work import work_api
from labeler.worker_api import worker_api
from labeler.worker_tokens import PATH
from preferences.disk import MB, Disk
from preferences.records import Role
from preferences.store import Store

ROLES: Mapping[str, Sequence[Role]] = {"/ops": ("admin",), "/study": OWNERS}
NO_EVENTS: Mapping[str, Inputs] = {}


def build_api(
    store: Store,
    settings: Settings,
    mounts: Mapping[str, Sequence[str]],
    events: Mapping[str, Inputs] = NO_EVENTS,
    rendering: Rendering | None = None,
) -> FastAPI:
    """`mounts`: where Gradio apps will be mounted -> the names of their pages; `events`: those that call Python -> what for.

    `rendering`: by default in this process.
    """
    rendering = rendering or Rendering()
    logins = Logins(store, settings.tries_a_minute, settings.session_seconds)
    guards = [
        Middleware(Proxied, trusted=settings.trusted_proxies, root=settings.root_path),
        Middleware(Visits, mounts=mounts),
        Middleware(SecureHeaders),
        Middleware(Throttle, pace=Pace(settings.requests_a_minute_here), key=by_address),
        Middleware(RequestGuard, limit=settings.body_bytes, limits={PATH: PIECE_BYTES}, hosts=settings.hosts),
        Middleware(Gate, store=store, mounts=mounts, roles=ROLES, events=events, idle_seconds=settings.idle_seconds),
        Middleware(Throttle, pace=pace_of_changes(), key=by_changes),
        Middleware(Throttle, pace=Pace(settings.requests_a_minute), key=by_account),
        Middleware(Events, inputs=events),
        # Gradio adds CORS headers of its own, which reflect any origin, unless it finds this one.
        Middleware(CORSMiddleware, allow_origins=[]),
        Middleware(Rooted, root=settings.root_path),
    ]
    # `redirect_slashes`: such a redirect would name whatever host the request names.
    app = FastAPI(
        title="Rankloop", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, middleware=guards,
        responses={"default": {"model": Failure, "description": "A failure, as a sentence"}},
    )  # fmt: skip
    add_failures(app)
    for with_html in (ranking_api, history_api, own_prompt_api):  # first: routes are tried one after the other
        app.include_router(with_html(store, rendering))
    folder = store.path.resolve().parent
    disk = Disk(folder, settings.low_disk_mb * MB)
    app.include_router(health_routes(store, disk))
    app.include_router(worker_api(store, settings.runs or folder / "runs", disk))
    app.include_router(description_routes())
    app.include_router(login_routes(logins), include_in_schema=False)
    app.include_router(join_routes(logins), include_in_schema=False)
    for routes in (
        study_api, consent_api, image_api, work_api, download_api, training_api, promotion_api, lineage_api,
        report_api,
    ):  # fmt: skip
        app.include_router(routes(store))
    return app
