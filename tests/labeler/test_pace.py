"""How often an account and an address may ask."""

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from labeler.pace import Pace, network
from labeler.settings import Settings
from labeler.throttle import Throttle
from labeler.web import build_api
from preferences.records import Annotator
from preferences.store import Store
from tests.labeler.conftest import PASSWORD, log_in

pytestmark = [pytest.mark.security, pytest.mark.smoke]
OURS, MALLORY = "198.51.100.7", "203.0.113.66"


def test_an_account_may_not_ask_without_end(store: Store, accounts: dict[str, Annotator]) -> None:
    assert accounts
    app = build_api(store, Settings(requests_a_minute=30), {})
    ann, bea = (log_in(TestClient(app), name) for name in ("ann", "bea"))
    answers = [ann.get("/api/me") for _ in range(35)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:30] == [200] * 30 and 429 in statuses[30:32]
    refusal = answers[statuses.index(429)]
    assert refusal.json()["code"] == "slow_down" and 1 <= int(refusal.headers["retry-after"]) <= 2
    assert bea.get("/api/me").status_code == 200


def test_an_address_may_not_ask_without_end_whoever_asks(store: Store, accounts: dict[str, Annotator]) -> None:
    assert accounts
    app = build_api(store, Settings(requests_a_minute_here=20), {})
    here, there = TestClient(app, client=(OURS, 1)), TestClient(app, client=(MALLORY, 1))
    assert [there.get("/login").status_code for _ in range(25)].count(429) >= 4
    assert there.post("/login", json={"name": "ann", "password": PASSWORD}).status_code == 429
    assert here.get("/login").status_code == 200


def test_a_pace_is_even_and_has_a_reserve_of_a_minute() -> None:
    now = [1000.0]
    pace = Pace(60, lambda: now[0])
    assert [pace.wait("a") for _ in range(60)] == [0.0] * 60
    assert pace.wait("a") == pytest.approx(1.0)
    assert pace.wait("b") == 0
    now[0] += 1
    assert pace.wait("a") == 0 and pace.wait("a") > 0
    now[0] += 3600
    assert [pace.wait("a") for _ in range(61)].count(0.0) == 60


def test_an_account_changes_its_answers_as_often_as_people_do(
    store: Store, accounts: dict[str, Annotator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time adds a row that stays; asking for the next comparison is not counted, nor what others do."""
    assert accounts
    monkeypatch.setattr("labeler.changes.AT_ONCE", 6)
    app = build_api(store, Settings(), {})
    ann, bea = (log_in(TestClient(app), name) for name in ("ann", "bea"))
    paths = ("undo", "reopen")
    answers = [ann.post(f"/api/{paths[number % 2]}", json={}) for number in range(8)]
    assert [answer.status_code for answer in answers] == [422] * 6 + [429] * 2
    assert answers[-1].json()["code"] == "slow_down" and 1 <= int(answers[-1].headers["retry-after"]) <= 3
    assert ann.get("/api/next").status_code == 200 and bea.post("/api/undo", json={}).status_code == 422


def test_many_keys_do_not_fill_the_memory() -> None:
    now = [0.0]
    pace = Pace(6000, lambda: now[0])
    for number in range(50_000):
        now[0] += 0.001
        pace.wait(str(number))
    assert len(pace._full) <= 20_000


def test_what_browsers_keep_is_not_counted() -> None:
    reached = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    client = TestClient(Throttle(app, Pace(1), lambda _: "one"))
    for _ in range(5):
        client.get("/app/assets/index.js")
    assert [client.get("/app/config").status_code for _ in range(2)] == [200, 429]
    assert len(reached) == 6


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        (OURS, OURS),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::ffff", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        (":nonsense", ":nonsense"),
        (f"::ffff:{OURS}", OURS),
        (f"::ffff:{MALLORY}", MALLORY),
    ],
)
def test_an_ipv6_network_is_one_address(address: str, counted: str) -> None:
    assert network(address) == counted
