"""What proxies say is believed of those alone that are named, and the labeler can be published below a path."""

import asyncio
import re

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from labeler.board import STATIC
from labeler.proxy import Proxied, address_outside
from labeler.settings import Settings
from labeler.web import build_api
from preferences.records import Annotator
from preferences.store import Store
from tests.labeler.conftest import PASSWORD, log_in
from tests.labeler.test_pace import MALLORY, OURS

pytestmark = [pytest.mark.security, pytest.mark.smoke]


def test_a_forwarded_header_is_believed_of_nobody_unless_it_is_said(
    store: Store, accounts: dict[str, Annotator]
) -> None:
    """Else five tries a minute would be five for each address that one makes up."""
    assert accounts
    client = TestClient(build_api(store, Settings(), {}), client=("127.0.0.1", 1))
    statuses = [
        client.post(
            "/login", json={"name": f"nobody {number}", "password": "wrong password"},
            headers={"X-Forwarded-For": f"203.0.113.{number}", "X-Forwarded-Proto": "https", "X-Real-IP": "8.8.8.8"},
        ).status_code
        for number in range(7)
    ]  # fmt: skip
    assert statuses == [401] * 5 + [429] * 2
    spoofed = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "Origin": "http://evil.example"}
    assert client.post("/login", json={}, headers=spoofed).status_code == 403


def test_a_trusted_proxy_is_believed_about_address_scheme_and_host(
    store: Store, accounts: dict[str, Annotator]
) -> None:
    assert accounts
    app = build_api(store, Settings(trusted_proxies=("10.0.0.0/8",)), {})
    proxy, stranger = TestClient(app, client=("10.1.2.3", 1)), TestClient(app, client=(MALLORY, 1))
    said = {
        "X-Forwarded-For": f"{OURS}, 10.9.9.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "rank.example",
        "Origin": "https://rank.example",
    }  # fmt: skip
    answer = proxy.post("/login", json={"name": "ann", "password": PASSWORD}, headers=said)
    assert answer.status_code == 200 and "Secure" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert stranger.post("/login", json={"name": "ann", "password": PASSWORD}, headers=said).status_code == 403
    for name in range(5):
        mallorys = {"X-Forwarded-For": f"1.2.3.{name}, {MALLORY}"}  # the proxy appends the address that it sees
        assert (
            proxy.post("/login", json={"name": str(name), "password": "wrong one"}, headers=mallorys).status_code == 401
        )
    for spoofed in (f"{MALLORY}", f"9.9.9.9, {MALLORY}"):
        answer = proxy.post("/login", json={"name": "x", "password": "wrong one"}, headers={"X-Forwarded-For": spoofed})
        assert answer.status_code == 429
    assert proxy.post("/login", json={"name": "ann", "password": PASSWORD}, headers=said).status_code == 200


@pytest.mark.parametrize("host", [b"evil.example/x", b"a b", b"", b"x" * 300, b"evil\r\nx"])
def test_a_host_that_is_none_is_not_believed(host: bytes) -> None:
    seen = {}

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.update(scope["headers"])

    scope = {"type": "http", "client": ("10.0.0.1", 1), "headers": [(b"host", b"ours"), (b"x-forwarded-host", host)]}
    asyncio.run(Proxied(app, ["10.0.0.1"])(scope, None, None))  # type: ignore[arg-type]
    assert seen == {b"host": b"ours"}


def test_no_forwarded_header_reaches_gradio() -> None:
    seen = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append([name for name, _ in scope["headers"]])

    names = [
        b"forwarded",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-prefix",
        b"x-gradio-server",
        b"x-real-ip",
    ]
    headers = [(name, b"evil.example") for name in [*names, b"x-rankloop-root", b"accept"]]
    for client in ("10.0.0.1", MALLORY):
        asyncio.run(Proxied(app, ["10.0.0.1"])({"type": "http", "client": (client, 1), "headers": headers}, None, None))  # type: ignore[arg-type]
    assert [[name for name in names if name != b"host"] for names in seen] == [[b"accept"], [b"accept"]]


def test_below_a_path_every_redirect_and_cookie_names_it(store: Store, accounts: dict[str, Annotator]) -> None:
    assert accounts
    client = TestClient(build_api(store, Settings(root_path="/rank/1"), {}), follow_redirects=False)
    page = {"accept": "text/html"}
    for root in ("", "/rank/1"):  # whether the proxy takes the path off or not
        assert client.get(f"{root}/api/work", headers=page).headers["location"] == "/rank/1/login?next=/api/work"
        assert client.get(f"{root}/login").status_code == 200
        answer = client.post(f"{root}/login", data={"name": "ann", "password": PASSWORD, "next": "/app/history"})
        assert answer.headers["location"] == "/rank/1/app/history"
        assert "; Path=/rank/1;" in f"{answer.headers['set-cookie']};"
        token = answer.headers["set-cookie"].partition(";")[0]
        assert client.get(f"{root}/api/me", headers={"cookie": token}).json()["name"] == "ann"
        out = client.post(f"{root}/logout", headers={"cookie": token})
        assert out.headers["location"] == "/rank/1/login" and "Path=/rank/1" in out.headers["set-cookie"]
    assert client.get("/rank/1").headers["location"] == "/rank/1/login"
    assert client.get("/rank/10/login").status_code == 401
    assert address_outside({"x-rankloop-root": "/x"}) == ""


def test_a_server_that_has_a_name_answers_to_no_other(store: Store) -> None:
    """The proxy's word for it counts; whoever watches the server may call it as they like."""
    app = build_api(store, Settings(hosts=("rank.example", "[2001:db8::1]"), trusted_proxies=("10.0.0.1",)), {})
    stranger, proxy = TestClient(app, client=(MALLORY, 1)), TestClient(app, client=("10.0.0.1", 1))
    for host, status in (
        ("rank.example", 200), ("RANK.example:8443", 200), ("[2001:db8::1]:80", 200), ("evil.example", 421), ("", 421),
        ("rank.example.evil.example", 421), ("rank.example@evil.example", 421),
    ):  # fmt: skip
        assert stranger.get("/login", headers={"host": host}).status_code == status, host
    assert stranger.get("/healthz", headers={"host": "127.0.0.1"}).status_code == 200
    said = {"host": "inside", "x-forwarded-host": "rank.example"}
    assert proxy.get("/login", headers=said).status_code == 200
    assert stranger.get("/login", headers=said).status_code == 421


def test_no_redirect_names_the_host_that_a_request_names(whole: TestClient) -> None:
    evil = {"host": "evil.example", "accept": "text/html"}
    log_in(whole, "adam")
    for path, status in (
        ("/app", 307), ("/ops", 307), ("/study", 307), ("/app/annotate/", 307), ("/", 303), ("/api/me/", 404),
        ("/login/", 404),
    ):  # fmt: skip
        answer = whole.get(path, headers=evil)
        assert answer.status_code == status, path
        assert answer.headers.get("location", "/").startswith("/") and "evil" not in answer.headers.get("location", "")
    assert whole.get("/app").headers["location"] == "/app/"


def test_no_script_forgets_the_path() -> None:
    """Where an address of ours is not given to `request`, it goes through `at`."""
    for path in STATIC.glob("*.js"):
        forgotten = re.search(
            r"""(href|src|action): *["'`]/|(fetch|assign)\(["'`]/""", path.read_text(encoding="utf-8")
        )
        assert not forgotten, (path.name, forgotten)
