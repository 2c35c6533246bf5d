"""Every route and every Gradio event, called as nobody and with every role, against a table of who may."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from labeler.accounts import COOKIE, Forbidden, token_hash
from labeler.gate import Gate
from preferences.records import ROLES
from preferences.store import Store
from tests.labeler.conftest import Standing, add_account

pytestmark = [pytest.mark.security, pytest.mark.smoke]
MOUNTS = ("/app", "/ops", "/study")
WHO = ("nobody", "ann", "rosa", "adam")
Statuses = tuple[int, int, int, int]  # as nobody, annotator, researcher, admin

# A POST is made with an empty JSON object: 422 means that its sender got as far as the check of the body.
ROUTES: dict[tuple[str, str], Statuses] = {
    ("GET", "/"): (303, 303, 303, 303),
    ("GET", "/login"): (200, 200, 200, 200),
    ("POST", "/login"): (422, 422, 422, 422),
    ("POST", "/logout"): (303, 303, 303, 303),
    ("GET", "/join"): (410, 410, 410, 410),
    ("POST", "/join"): (410, 410, 410, 410),
    ("GET", "/favicon.ico"): (200, 200, 200, 200),
    ("GET", "/manifest.json"): (200, 200, 200, 200),
    ("GET", "/healthz"): (200, 200, 200, 200),
    ("GET", "/readyz"): (200, 200, 200, 200),
    ("GET", "/openapi.json"): (401, 403, 200, 200),
    ("GET", "/api/me"): (401, 200, 200, 200),
    ("GET", "/api/next"): (401, 200, 200, 200),
    ("GET", "/api/ahead"): (401, 200, 200, 200),
    ("GET", "/api/history"): (401, 200, 200, 200),
    ("GET", "/api/history/{ranking}"): (401, 404, 404, 404),
    ("POST", "/api/submit"): (401, 422, 422, 422),
    ("POST", "/api/skip"): (401, 422, 422, 422),
    ("POST", "/api/undo"): (401, 422, 422, 422),
    ("POST", "/api/draft"): (401, 422, 422, 422),
    ("POST", "/api/renew"): (401, 422, 422, 422),
    ("POST", "/api/release"): (401, 422, 422, 422),
    ("POST", "/api/reopen"): (401, 422, 422, 422),
    ("POST", "/api/settings"): (401, 422, 422, 422),
    ("GET", "/api/strings"): (401, 200, 200, 200),
    ("GET", "/api/study"): (401, 200, 200, 200),
    ("GET", "/api/guidelines"): (401, 200, 200, 200),
    ("POST", "/api/guidelines"): (401, 422, 422, 422),
    ("POST", "/api/remark"): (401, 422, 422, 422),
    ("GET", "/api/consent"): (401, 200, 200, 200),
    ("GET", "/api/work"): (401, 200, 200, 200),
    ("POST", "/api/consent"): (401, 422, 422, 422),
    ("GET", "/api/images/{ident}"): (401, 422, 422, 422),
    ("POST", "/api/own_prompts"): (401, 422, 422, 422),
    ("GET", "/api/own_prompts/{job}"): (401, 404, 404, 404),
    ("POST", "/api/own_prompts/{job}/rank"): (401, 404, 404, 404),
    ("GET", "/app/"): (401, 200, 200, 200),
    ("HEAD", "/app/"): (401, 200, 200, 200),
    ("GET", "/app/annotate"): (401, 200, 200, 200),
    ("GET", "/app/annotate/"): (401, 307, 307, 307),
    ("GET", "/app/history"): (401, 200, 200, 200),
    ("GET", "/app/history/"): (401, 307, 307, 307),
    ("GET", "/app/config"): (401, 200, 200, 200),
    ("GET", "/app/theme.css"): (401, 200, 200, 200),
    ("GET", "/app/assets/{path:path}"): (401, 200, 200, 200),
    ("GET", "/app/static/{path:path}"): (401, 200, 200, 200),
    ("POST", "/app/gradio_api/run/{api_name}"): (404, 404, 404, 404),  # its pages call no Python
    ("GET", "/api/studies"): (401, 403, 200, 200),
    ("GET", "/api/studies/{study}/hours.csv"): (401, 403, 404, 404),
    ("GET", "/api/studies/{study}/rankings.jsonl"): (401, 403, 404, 404),
    ("GET", "/api/reports"): (401, 403, 200, 200),
    ("GET", "/api/runs/{run}/report"): (401, 403, 404, 404),
    ("GET", "/api/training"): (401, 403, 200, 200),
    ("GET", "/api/training/jobs"): (401, 403, 200, 200),
    ("POST", "/api/training/jobs"): (401, 403, 422, 422),
    ("GET", "/api/training/jobs/{job}"): (401, 403, 404, 404),
    ("POST", "/api/training/jobs/{job}/stop"): (401, 403, 404, 404),
    ("POST", "/api/training/jobs/{job}/again"): (401, 403, 404, 404),
    ("POST", "/api/training/plans"): (401, 403, 422, 422),
    ("GET", "/api/promotions"): (401, 403, 200, 200),
    ("GET", "/api/promotions/evidence"): (401, 403, 422, 422),
    ("POST", "/api/promotions"): (401, 403, 422, 422),
    ("POST", "/api/promotions/back"): (401, 403, 422, 422),
    ("GET", "/api/lineage"): (401, 403, 200, 200),
    ("GET", "/api/runs/{run}/run.zip"): (401, 403, 404, 404),
    **dict.fromkeys(  # a worker's token alone opens these: test_worker_api.py
        [
            *(("POST", f"/api/worker/{name}") for name in ("hello", "seen", "leave", "claim")),
            *(("GET", f"/api/worker/jobs/{{job}}/{name}") for name in ("store", "files", "file")),
            *(("POST", f"/api/worker/jobs/{{job}}/{name}") for name in ("missing", "beat", "effects", "files", "end")),
            ("PUT", "/api/worker/jobs/{job}/pieces/{sha256}"),
        ],
        (401, 401, 401, 401),
    ),
    ("GET", "/study/training"): (401, 403, 200, 200),
    ("GET", "/study/training/"): (401, 403, 307, 307),
    ("GET", "/study/lineage"): (401, 403, 200, 200),
    ("GET", "/study/lineage/"): (401, 403, 307, 307),
    ("GET", "/study/"): (401, 403, 200, 200),
    ("HEAD", "/study/"): (401, 403, 200, 200),
    ("GET", "/study/config"): (401, 403, 200, 200),
    ("GET", "/study/theme.css"): (401, 403, 200, 200),
    ("GET", "/study/assets/{path:path}"): (401, 403, 200, 200),
    ("GET", "/study/static/{path:path}"): (401, 403, 200, 200),
    ("POST", "/study/gradio_api/run/{api_name}"): (401, 403, 200, 200),
    ("GET", "/ops/"): (401, 403, 403, 200),
    ("HEAD", "/ops/"): (401, 403, 403, 200),
    ("GET", "/ops/config"): (401, 403, 403, 200),
    ("GET", "/ops/theme.css"): (401, 403, 403, 200),
    ("GET", "/ops/assets/{path:path}"): (401, 403, 403, 200),
    ("GET", "/ops/static/{path:path}"): (401, 403, 403, 200),
    ("POST", "/ops/gradio_api/run/{api_name}"): (401, 403, 403, 200),
}

# Routes that Gradio brings and no page needs: nobody may, at /app and at /ops.
SHUT: tuple[tuple[str, str], ...] = (
    ("GET", "/config/"),
    ("GET", "/favicon.ico"),
    ("POST", "/gradio_api/api/{api_name}"),
    ("POST", "/gradio_api/api/{api_name}/"),
    ("GET", "/gradio_api/app_id"),
    ("GET", "/gradio_api/app_id/"),
    ("POST", "/gradio_api/call/v2/{api_name}"),
    ("POST", "/gradio_api/call/v2/{api_name}/"),
    ("GET", "/gradio_api/call/v2/{api_name}/{event_id}"),
    ("POST", "/gradio_api/call/{api_name}"),
    ("POST", "/gradio_api/call/{api_name}/"),
    ("GET", "/gradio_api/call/{api_name}/{event_id}"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/component_server/"),
    ("GET", "/gradio_api/custom_component/{id}/{environment}/{type}/{file_name}"),
    ("GET", "/gradio_api/deep_link"),
    ("GET", "/gradio_api/dev/reload"),
    ("GET", "/gradio_api/file/{path:path}"),
    ("GET", "/gradio_api/file={path_or_url:path}"),
    ("HEAD", "/gradio_api/file={path_or_url:path}"),
    ("GET", "/gradio_api/heartbeat/{session_hash}"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/info/"),
    ("GET", "/gradio_api/login_check"),
    ("GET", "/gradio_api/login_check/"),
    ("GET", "/gradio_api/openapi.json"),
    ("POST", "/gradio_api/process_recording"),
    ("GET", "/gradio_api/proxy={url_path:path}"),
    ("HEAD", "/gradio_api/proxy={url_path:path}"),
    ("GET", "/gradio_api/queue/data"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/status"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/gradio_api/reset/"),
    ("POST", "/gradio_api/run/{api_name}/"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/gradio_api/runs/"),
    ("GET", "/gradio_api/startup-events"),
    ("POST", "/gradio_api/stream/{event_id}"),
    ("POST", "/gradio_api/stream/{event_id}/close"),
    ("GET", "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file"),
    ("GET", "/gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8"),
    ("GET", "/gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}"),
    ("GET", "/gradio_api/theme.css"),
    ("GET", "/gradio_api/token"),
    ("GET", "/gradio_api/token/"),
    ("POST", "/gradio_api/undo-vibe-edit"),
    ("POST", "/gradio_api/undo-vibe-edit/"),
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/upload_progress"),
    ("GET", "/gradio_api/user"),
    ("GET", "/gradio_api/user/"),
    ("GET", "/gradio_api/vibe-code"),
    ("POST", "/gradio_api/vibe-code"),
    ("GET", "/gradio_api/vibe-code/"),
    ("POST", "/gradio_api/vibe-code/"),
    ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/gradio_api/vibe-edit/"),
    ("POST", "/gradio_api/vibe-starter-queries"),
    ("POST", "/gradio_api/vibe-starter-queries/"),
    ("POST", "/login"),
    ("POST", "/login/"),
    ("GET", "/logout"),
    ("GET", "/manifest.json"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/monitoring/{key}"),
    ("GET", "/pwa_icon"),
    ("GET", "/pwa_icon/{size}"),
    ("GET", "/robots.txt"),
    ("GET", "/svelte/{path:path}"),
)

# Gradio's events: who may call the handler, where its app lets them in at all.
EVENTS: dict[tuple[str, str], tuple[bool, bool, bool, bool]] = {
    **dict.fromkeys(
        [
            ("/study", name)
            for name in (
                "look",
                "choose",
                "save_study",
                "pause_study",
                "resume_study",
                "close_study",
                "requeue_old",
                "exclude_annotator",
                "include_annotator",
                "invite_people",
                "quality",
                "evaluation",
                "checks",
                "check_passed",
                "check_failed",
                "messages",
                "message",
                "message_done",
                "message_open",
            )
        ],
        (False, False, True, True),
    ),
    **dict.fromkeys(
        [
            ("/ops", name)
            for name in (
                "alarm",
                "people",
                "studies",
                "policies",
                "reset_password",
                "end_sessions",
                "close_account",
                "open_account",
            )
        ],
        (False, False, False, True),
    ),
}


def walk(routes: list[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route, also of included routers and mounted apps."""
    for route in routes:
        if isinstance(route, Mount):
            yield from walk(route.routes, prefix + route.path)
        elif hasattr(route, "original_router"):
            yield from walk(route.original_router.routes, prefix)
        else:
            assert route.methods, f"A route of an unknown kind: {route!r}"
            for method in route.methods:
                yield method, prefix + route.path


def blocks_of(client: TestClient) -> dict[str, gr.Blocks]:
    """Where a Gradio app is mounted -> the app."""
    mounts = [route for route in client.app.routes if isinstance(route, Mount)]  # type: ignore[attr-defined]
    return {mount.path: mount.app.get_blocks() for mount in mounts}


def asset_of(page: str) -> str:
    """The path of a script that a page loads, below its app."""
    found = re.search(r"assets/[\w-]+\.js", page)
    assert found
    return found[0]


def open_session(standing: Standing, name: str) -> None:
    """A session whose token is known to `headers`."""
    standing.store.annotators.close_session(token_hash(f"token-of-{name}"))
    standing.store.annotators.open_session(standing.accounts[name], token_hash(f"token-of-{name}"), 3600)


@pytest.fixture
def headers(standing: Standing) -> dict[str, dict[str, str]]:
    """The headers with which each of WHO is known."""
    for name in WHO[1:]:
        open_session(standing, name)
    return {name: {} if name == "nobody" else {"cookie": f"{COOKIE}=token-of-{name}"} for name in WHO}


def test_the_table_has_every_role(standing: Standing) -> None:
    assert {standing.accounts[name].role for name in WHO[1:]} == set(ROLES)


def test_every_route_is_in_the_table(whole: TestClient) -> None:
    shut = {(method, mount + path) for method, path in SHUT for mount in MOUNTS}
    routes = list(walk(whole.app.routes))  # type: ignore[attr-defined]
    assert len(routes) == len(set(routes))
    assert set(routes) == set(ROUTES) | shut


def test_who_may_call_every_route(whole: TestClient, standing: Standing, headers: dict[str, dict[str, str]]) -> None:
    asset = asset_of(whole.get("/app/", headers=headers["adam"]).text)
    wrong = {}
    for (method, path), expected in ROUTES.items():
        address = path.replace("assets/{path:path}", asset).replace("{path:path}", "img/logo.svg")
        body = {"fn_index": 0, "data": []} if "{api_name}" in path else {}
        statuses = []
        for name in WHO:
            found = whole.request(
                method,
                address.format(
                    api_name="predict",
                    ident="none",
                    job="none",
                    ranking="x",
                    run="none",
                    study="none",
                    policy="none",
                    sha256="none",
                ),
                headers=headers[name],
                json=body if method == "POST" else None,
            )
            statuses.append(found.status_code)
            if path == "/logout" and name != "nobody":
                open_session(standing, name)
        if tuple(statuses) != expected:
            wrong[method, path] = statuses
    assert not wrong


def test_nobody_may_call_what_gradio_brings_beside_the_pages(
    whole: TestClient, headers: dict[str, dict[str, str]]
) -> None:
    open_ones = []
    for method, path in SHUT:
        for mount in MOUNTS:
            address = mount + re.sub(r"\{[^}]+\}", "x", path)
            for name in WHO:
                found = whole.request(method, address, headers=headers[name], json={} if method == "POST" else None)
                by_gate = method == "HEAD" or found.json() == {
                    "error": "There is nothing at this address.",
                    "code": "unknown",
                }
                if found.status_code != 404 or not by_gate:
                    open_ones.append((method, address, name, found.status_code))
    assert not open_ones


def test_there_is_no_way_around(whole: TestClient, headers: dict[str, dict[str, str]]) -> None:
    for path in (
        "/app/../ops/config",
        "/app/%2e%2e/ops/config",
        "/app/gradio_api/file=/etc/passwd",
        "/app/static/../gradio_api/info",
        "/app//config",
        "/app/assets/..%2f..%2f..%2f..%2frun.py",
        "/app/static/%2e%2e/%2e%2e/%2e%2e/package.json",
        "/app/gradio_api/run/predict/",
        "//ops/config",
        "/OPS/config",
        "/nowhere",
        "/docs",
        "/redoc",
        "/openapi.json",
    ):
        request = whole.build_request("GET", "/", headers=headers["ann"])
        request.url = request.url.copy_with(raw_path=path.encode())
        assert whole.send(request).status_code in (403, 404), path


def test_websockets_are_closed(store: Store) -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    client = TestClient(Gate(app, store, {}, {}))
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/next"):
        pass


def events(client: TestClient) -> Iterator[tuple[str, int, Any]]:
    """(mount, index, event) of every Gradio event that runs Python."""
    for mount, blocks in blocks_of(client).items():
        for index, event in blocks.fns.items():
            if event.fn is not None:
                yield mount, index, event


def test_every_event_is_in_the_table(whole: TestClient) -> None:
    assert sorted((mount, event.fn.__name__) for mount, _, event in events(whole)) == sorted(EVENTS)


def test_every_event_that_a_page_is_told_of_is_known(whole: TestClient, headers: dict[str, dict[str, str]]) -> None:
    for mount in MOUNTS:
        config = whole.get(f"{mount}/config", headers=headers["adam"]).json()
        told = {dependency["id"] for dependency in config["dependencies"] if dependency["backend_fn"]}
        assert told <= {index for found, index, _ in events(whole) if found == mount}


def test_who_may_call_every_event(whole: TestClient, headers: dict[str, dict[str, str]]) -> None:
    for mount, index, event in events(whole):
        assert not event.queue, "The gate shuts Gradio's queue: an event needs queue=False."
        body = {"fn_index": index, "data": [None] * len(event.inputs), "session_hash": "x"}
        answers = [whole.post(f"{mount}/gradio_api/run/predict", json=body, headers=headers[name]) for name in WHO]
        assert tuple(answer.status_code == 200 for answer in answers) == EVENTS[mount, event.fn.__name__]


def test_handlers_refuse_by_themselves_whoever_the_gate_lets_in(whole: TestClient, standing: Standing) -> None:
    gone = add_account(standing.store, "gone", "admin")
    standing.store.annotators.set_active(gone, False)
    ids = (None, *(standing.accounts[name].id for name in WHO[1:]))
    for mount, _, event in events(whole):
        for ident, may in zip(ids, EVENTS[mount, event.fn.__name__], strict=True):
            request = SimpleNamespace(username=ident, headers={})
            if may:
                event.fn(*[None] * len(event.inputs), request=request)
            else:
                with pytest.raises(Forbidden):
                    event.fn(*[None] * len(event.inputs), request=request)
    for _, _, event in events(whole):
        with pytest.raises(Forbidden):
            event.fn(*[None] * len(event.inputs), request=SimpleNamespace(username=gone.id))


def first_statement(function: Any) -> ast.stmt:
    """What a function does first, after its docstring."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    documented = ast.get_docstring(definition) is not None
    return definition.body[1 if documented else 0]


def checks_role(statement: ast.stmt) -> bool:
    """Whether it is `require(store, request.username, role, ...)`, kept in a variable or not."""
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "require"):
        return False
    return len(call.args) >= 3 and ast.unparse(call.args[1]) == "request.username"


def test_a_role_check_is_the_first_statement_of_every_handler(whole: TestClient) -> None:
    for mount, _, event in events(whole):
        assert checks_role(first_statement(event.fn)), (mount, event.fn.__name__)
