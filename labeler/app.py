"""The labeler as one ASGI app: the ranking API and the login page, with Gradio's pages mounted beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware

from labeler.accounts import Logins
from labeler.api import ranking_api
from labeler.failures import add_failures
from labeler.gate import Gate
from labeler.login import login_routes
from labeler.pages import ops, site
from labeler.security import RequestGuard, SecureHeaders
from labeler.settings import Settings
from preferences.records import Annotator, Role
from preferences.store import Store

# What Gradio offers beyond drawing pages stays off.
CLOSED: dict[str, Any] = {
    "run_history": False,
    "footer_links": [],
    "show_error": False,
    "max_file_size": "1kb",
    "ssr_mode": False,
    "enable_monitoring": False,
    "pwa": False,
    "mcp_server": False,
    "allowed_paths": [],
    "app_kwargs": {"docs_url": None, "redoc_url": None, "openapi_url": None},
}
SESSIONS_KEPT = 500
ROLES: Mapping[str, Sequence[Role]] = {"/ops": ("admin",)}


def build_app(store: Store, settings: Settings | None = None) -> FastAPI:
    """The whole labeler: annotators' pages at /app, the admins' at /ops, the API at /api."""
    mounts = {"/app": site.build_site(store), "/ops": ops.build_ops(store)}
    app = build_api(store, settings or Settings(), {path: page_names(blocks) for path, blocks in mounts.items()})
    for (path, blocks), look in zip(mounts.items(), (site.MOUNT, ops.MOUNT), strict=True):
        blocks.state_session_capacity = SESSIONS_KEPT
        gr.mount_gradio_app(app, blocks, path, auth_dependency=account_id, **{**look, **CLOSED})
    return app


def build_api(store: Store, settings: Settings, mounts: Mapping[str, Sequence[str]]) -> FastAPI:
    """The app without pages. `mounts`: where Gradio apps will be mounted -> the names of their pages."""
    logins = Logins(store, settings.tries_a_minute, settings.session_seconds)
    guards = [
        Middleware(SecureHeaders),
        Middleware(RequestGuard, limit=settings.body_bytes),
        Middleware(Gate, store=store, mounts=mounts, roles=ROLES),
        # Gradio adds CORS headers of its own, which reflect any origin, unless it finds this one.
        Middleware(CORSMiddleware, allow_origins=[]),
    ]
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, middleware=guards)
    add_failures(app)
    app.include_router(login_routes(logins))
    app.include_router(ranking_api(store))
    return app


def page_names(blocks: gr.Blocks) -> list[str]:
    """The addresses of a Gradio app's pages below its mount; "" is its first."""
    return [page[0] for page in blocks.pages]


def account_id(request: Request) -> str | None:
    """For Gradio: whose request it is, as the gate found out; handlers see it as `request.username`."""
    account = getattr(request.state, "account", None)
    return account.id if isinstance(account, Annotator) else None
