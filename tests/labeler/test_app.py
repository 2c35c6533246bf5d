import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx import Client
from starlette.types import Message, Receive, Scope, Send

from labeler.security import CSP, RequestGuard
from labeler.settings import Settings
from labeler.web import build_api
from preferences.store import Store
from tests.labeler.browser import labeler
from tests.labeler.conftest import PASSWORD, SECRETS, add_account, log_in

PAGE = {"accept": "text/html,application/xhtml+xml"}


def test_the_labeler_loads_no_torch() -> None:
    code = "import labeler.app, sys; print(sorted({'torch', 'transformers', 'trainer'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_telemetry_is_off_before_gradio_is_imported() -> None:
    code = "import labeler, os, sys; print(os.environ['GRADIO_ANALYTICS_ENABLED'], 'gradio' in sys.modules)"
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "True"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.split() == ["False", "False"]


def test_nobody_is_led_to_the_login_and_back(whole: TestClient) -> None:
    assert whole.get("/", headers=PAGE).headers["location"] == "/login"
    for path in ("/app/annotate", "/app/", "/ops/"):
        answer = whole.get(path, headers=PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path}")
    assert 'name="next" value="/app/history"' in whole.get("/login?next=/app/history").text
    answer = whole.get("/api/next", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (401, "login")


def test_the_login_page_holds_no_script_and_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get('/login?next="><script>alert(1)</script>').text
    assert "<script" not in page and "http" not in page.replace('http-equiv="', "")
    for field in ("name", "password"):
        assert f'<label for="{field}">' in page and f'id="{field}"' in page
    assert '<html lang="en" dir="ltr">' in page and "width=device-width" in page


def test_after_the_login_the_pages_open(whole: TestClient) -> None:
    log_in(whole, "ann")
    assert whole.get("/").headers["location"] == "/app/annotate/"
    assert whole.get("/app/annotate/").headers["location"] == "/app/annotate"
    for path in ("/app/annotate", "/app/history", "/app/"):
        page = whole.get(path, headers=PAGE)
        assert page.status_code == 200 and "Rankloop" in page.text


@pytest.mark.security
@pytest.mark.smoke
def test_every_answer_has_the_security_headers(whole: TestClient) -> None:
    log_in(whole, "ann")
    for path in (
        "/login",
        "/",
        "/api/next",
        "/app/annotate",
        "/app/config",
        "/ops/",
        "/nowhere",
        "/app/gradio_api/info",
    ):
        headers = whole.get(path).headers
        assert headers["content-security-policy"] == CSP, path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        assert headers["cache-control"] == "no-store"
    asset = re.search(r"assets/[\w-]+\.js", whole.get("/app/annotate").text)
    assert asset and "no-store" not in whole.get(f"/app/{asset[0]}").headers.get("cache-control", "")


@pytest.mark.security
@pytest.mark.smoke
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://testserver"}, True),
        ({"origin": "http://testserver", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://testserver.evil.example"}, False),
        ({"origin": "http://testserver:81"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://["}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://testserver", "sec-fetch-site": "cross-site"}, False),
        ({"referer": "http://testserver/app/annotate"}, True),
        ({"referer": "http://testserver"}, True),
        ({"referer": "http://evil.example/http://testserver/"}, False),
        ({"referer": "http://testserver.evil.example/app"}, False),
        ({"referer": "http://evil.example?//testserver/"}, False),
        ({"referer": "about:blank"}, False),
        ({"referer": "http://evil.example/", "origin": "http://testserver"}, True),
    ],
)
def test_only_our_own_pages_may_change_anything(client: TestClient, headers: dict[str, str], allowed: bool) -> None:
    log_in(client, "ann")
    answer = client.post("/api/settings", json={"single_keys": True}, headers=headers)
    assert answer.status_code == (200 if allowed else 403)
    assert client.get("/api/me").json()["settings"] == ({"single_keys": True} if allowed else {})
    assert client.post("/logout", headers=headers).status_code == (303 if allowed else 403)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_guarded_too(client: TestClient, method: str) -> None:
    log_in(client, "ann")
    assert client.request(method, "/api/settings", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.request(method, "/api/settings").status_code == 405


@pytest.mark.security
@pytest.mark.smoke
def test_no_origin_is_ever_allowed_to_read(whole: TestClient) -> None:
    log_in(whole, "ann")
    for host in ("testserver", "labels.example", "127.0.0.1"):
        for path in ("/api/next", "/app/config", "/app/annotate", "/login"):
            asked = {"host": host, "origin": "http://evil.example"}
            answers = [
                whole.get(path, headers=asked),
                whole.options(path, headers={**asked, "access-control-request-method": "POST"}),
            ]
            assert not any("access-control-allow-origin" in answer.headers for answer in answers)


def test_a_large_body_is_refused(store: Store, client: TestClient) -> None:
    log_in(client, "ann")

    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1024

    for content in (b" " * (256 * 1024 + 1), chunks()):
        answer = client.post("/api/undo", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    answer = client.post("/api/undo", content=b"{}" + b" " * 200_000, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    with TestClient(build_api(store, Settings(body_bytes=10), {})) as small:
        assert small.post("/login", json={"name": "ann", "password": "x"}).status_code == 413


def test_a_false_content_length_is_refused(client: TestClient) -> None:
    for length in ("-1", "many", "999999999999", "9" * 5000):
        answer = client.post("/login", content=b"{}", headers={"content-length": length})
        assert answer.status_code == 413


def guarded(length: bytes, *messages: Message) -> list[Message]:
    """What arrives behind the guard, which lets 100 bytes through."""
    arrived: list[Message] = []
    waiting = list(messages)

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        arrived.append(await receive())

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(_: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", length)]}
    asyncio.run(RequestGuard(app, limit=100)(scope, receive, send))
    return arrived


def test_a_body_in_pieces_arrives_whole_and_one_that_breaks_off_does_not() -> None:
    first = {"type": "http.request", "body": b"{", "more_body": True}
    last = {"type": "http.request", "body": b"}", "more_body": False}
    assert guarded(b"2", first, last) == [{"type": "http.request", "body": b"{}", "more_body": False}]
    assert guarded(b"2", first, {"type": "http.disconnect"}) == []
    assert guarded("²".encode("latin-1"), last) == []


def test_settings_refuse_nonsense() -> None:
    for name in ("session_seconds", "tries_a_minute", "body_bytes"):
        with pytest.raises(ValueError, match=name):
            Settings(**{name: 0})


def test_no_page_says_where_a_response_comes_from(whole: TestClient) -> None:
    log_in(whole, "ann")
    for path in ("/app/annotate", "/app/history", "/app/", "/app/config", "/api/next", "/api/me"):
        page = whole.get(path, headers=PAGE).text
        assert [secret for secret in SECRETS if secret in page] == []
    config = whole.get("/app/config").json()
    for event in config["dependencies"]:
        body = {"fn_index": event["id"], "data": [], "session_hash": "x"}
        assert [
            secret for secret in SECRETS if secret in whole.post("/app/gradio_api/run/predict", json=body).text
        ] == []


def test_what_gradio_offers_beside_pages_is_off(whole: TestClient) -> None:
    log_in(whole, "adam")
    for mount in ("/app", "/ops"):
        config = whole.get(f"{mount}/config").json()
        assert config["run_history"] is False
        assert config["footer_links"] == []
        assert config["analytics_enabled"] is False
        assert config["show_error"] is False
        assert not config["mcp_server"] and not config["pwa"] and not config["vibe_mode"]


def test_a_page_of_the_admins_is_not_in_the_annotators_config(whole: TestClient) -> None:
    log_in(whole, "ann")
    names = [event["api_name"] for event in whole.get("/app/config").json()["dependencies"]]
    assert not {"people", "studies", "policies"} & set(names)


def test_a_session_survives_a_restart(store: Store, as_account: Callable[[str], TestClient]) -> None:
    before = as_account("ann")
    with TestClient(build_api(store, Settings(), {}), cookies=before.cookies) as after:
        assert after.get("/api/me").json()["name"] == "ann"


@pytest.mark.skipif(sys.platform != "linux", reason="reads how often a process woke up from /proc")
def test_a_server_that_nobody_asks_rests(tmp_path: Path) -> None:
    """Gradio's queues look for work a thousand times a second; ours have none."""
    with labeler(tmp_path) as server, Client(base_url=server.url) as browser:
        add_account(server.store, "ada")
        browser.post("/login", data={"name": "ada", "password": PASSWORD})
        assert browser.get("/app/annotate", headers=PAGE).status_code == 200  # Gradio begins with the first page
        time.sleep(1)
        assert server.process is not None
        before = wake_ups(server.process.pid)
        time.sleep(2)
        assert wake_ups(server.process.pid) - before < 200


def wake_ups(pid: int) -> int:
    """How often a process's first thread has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.MULTILINE)[0])
