"""The whole labeler as one ASGI app: Gradio's pages mounted beside the ranking API."""

import warnings
from typing import Annotated, Any, Literal

import gradio as gr
from fastapi import FastAPI, Request
from pydantic import Field, TypeAdapter

from labeler.events import Inputs
from labeler.handlers import quieten
from labeler.pages import ops, site, study
from labeler.rendering import Rendering
from labeler.settings import Settings
from labeler.web import build_api
from preferences.disk import MB, Disk
from preferences.records import Annotator
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
QUEUE_SECONDS = 0.5  # no event goes through Gradio's queue, which would else look for one a thousand times a second
SESSIONS_KEPT = 500  # each browser tab costs Gradio about 75 KB


def build_app(store: Store, settings: Settings | None = None, rendering: Rendering | None = None) -> FastAPI:
    """Annotators' pages at /app, the study owners' at /study, the admins' at /ops, the API at /api.

    `rendering`: by default in this process.
    """
    settings = settings or Settings()
    disk = Disk(store.path.resolve().parent, settings.low_disk_mb * MB)
    mounts = {"/app": site.build_site(), "/ops": ops.build_ops(store, disk), "/study": study.build_study(store)}
    pages = {path: page_names(blocks) for path, blocks in mounts.items()}
    events = {path: inputs_of(blocks) for path, blocks in mounts.items() if blocks.fns}
    app = build_api(store, settings, pages, events, rendering)
    for path, blocks in mounts.items():
        quieten(blocks)
        blocks.state_session_capacity = SESSIONS_KEPT
        blocks._queue.sleep_when_free = blocks._queue.progress_update_sleep_when_free = QUEUE_SECONDS
        with warnings.catch_warnings():
            # Said of every mounted app with several pages, also of one that did not ask for SSR.
            warnings.filterwarnings("ignore", message="SSR mode is not supported")
            gr.mount_gradio_app(
                app, blocks, path, auth_dependency=account_id, head=head(settings.root_path), **site.LOOK, **CLOSED
            )
    return app


def head(root: str) -> str:
    """What every page has in its head. dom.js reads `root`, below which a proxy publishes the labeler."""
    return f'<link rel="icon" href="data:,"><meta name="rankloop-root" content="{root}">'


def page_names(blocks: gr.Blocks) -> list[str]:
    """The addresses of a Gradio app's pages below its mount; "" is its first."""
    return [page[0] for page in blocks.pages]


def inputs_of(blocks: gr.Blocks) -> Inputs:
    """What the inputs of each event take that calls Python."""
    return {
        index: [TypeAdapter(kind_of(block) | None) for block in event.inputs]
        for index, event in blocks.fns.items()
        if event.fn
    }


def kind_of(block: Any) -> Any:
    """The type of what a page sends of a component."""
    if isinstance(block, gr.Textbox):
        return Annotated[str, Field(max_length=block.max_length)]
    if isinstance(block, gr.Dropdown):
        one = str if block.allow_custom_value else Literal[tuple(value for _, value in block.choices)]
        return list[one] if block.multiselect else one  # type: ignore[valid-type]
    if isinstance(block, gr.Number):
        return Annotated[float, Field(ge=block.minimum, le=block.maximum, allow_inf_nan=False)]
    assert isinstance(block, gr.Checkbox), f"It is not said what a {type(block).__name__} sends."
    return bool


def account_id(request: Request) -> str | None:
    """For Gradio: whose request it is, as the gate found out; handlers see it as `request.username`."""
    account = getattr(request.state, "account", None)
    return account.id if isinstance(account, Annotator) else None
