import asyncio
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from labeler.accounts import (
    COOKIE,
    SESSION_SECONDS,
    BadLogin,
    BadPassword,
    Forbidden,
    Logins,
    TooManyTries,
    account_of,
    hash_password,
    password_matches,
    require,
    token_hash,
)
from labeler.login import local
from labeler.turnstile import LOGINS_A_MINUTE, WAITING_OF_ONE
from preferences.records import Annotator
from preferences.store import Store
from preferences.tables.annotators import MOST_SESSIONS
from tests.labeler.conftest import PASSWORD, Clock, add_account, log_in

pytestmark = [pytest.mark.security, pytest.mark.smoke]


def test_a_hash_fits_its_password_alone() -> None:
    stored = hash_password(PASSWORD)
    assert PASSWORD not in stored
    assert password_matches(stored, PASSWORD)
    assert not password_matches(stored, PASSWORD + "x")
    assert not password_matches("", PASSWORD)


@pytest.mark.parametrize("password", ["", "short12", "x" * 1025])
def test_a_password_of_a_wrong_length_is_refused(password: str) -> None:
    with pytest.raises(BadPassword, match="8 to 1024"):
        hash_password(password)


def test_the_database_keeps_the_hash_of_a_token_only(store: Store, accounts: dict[str, Annotator]) -> None:
    account, token = asyncio.run(Logins(store).open("ann", PASSWORD, "here"))
    assert account.id == accounts["ann"].id
    kept = [row["token_hash"] for row in store.db["sessions"].rows]
    assert kept == [token_hash(token)] and token not in kept


def test_a_session_ends(store: Store, accounts: dict[str, Annotator], clock: Clock) -> None:
    _, token = asyncio.run(Logins(store).open("ann", PASSWORD, "here"))
    clock.now += SESSION_SECONDS - 1
    assert account_of(store, token, SESSION_SECONDS) == accounts["ann"]
    clock.now += 2
    assert account_of(store, token, 2 * SESSION_SECONDS) is None


@pytest.mark.usefixtures("accounts")
def test_no_token_and_a_made_up_token_open_nothing(store: Store) -> None:
    asyncio.run(Logins(store).open("ann", PASSWORD, "here"))
    assert account_of(store, None) is None
    assert account_of(store, "") is None
    assert account_of(store, "made-up") is None


def test_a_removed_account_is_out_at_once(store: Store, accounts: dict[str, Annotator]) -> None:
    logins = Logins(store)
    _, token = asyncio.run(logins.open("ann", PASSWORD, "here"))
    store.annotators.set_active(accounts["ann"], False)
    assert account_of(store, token) is None
    with pytest.raises(BadLogin):
        asyncio.run(logins.open("ann", PASSWORD, "here"))


def test_an_imported_annotator_without_a_password_cannot_log_in(store: Store) -> None:
    store.annotators.add("imported", "annotator", "")
    with pytest.raises(BadLogin):
        asyncio.run(Logins(store).open("imported", "", "here"))


def test_five_wrong_passwords_close_the_account_even_to_the_right_one(
    store: Store, accounts: dict[str, Annotator]
) -> None:
    logins = Logins(store)
    for i, name in enumerate(["ann", "ANN", "Ann", accounts["ann"].id, "ann"]):
        with pytest.raises(BadLogin):
            asyncio.run(logins.open(name, "wrong password", f"address {i}"))
    with pytest.raises(TooManyTries):
        asyncio.run(logins.open("ann", PASSWORD, "another address"))
    assert asyncio.run(logins.open("bea", PASSWORD, "another address"))[0].name == "bea"


@pytest.mark.usefixtures("accounts")
def test_five_wrong_passwords_close_the_address_to_every_account(store: Store) -> None:
    logins = Logins(store)
    for i in range(5):
        with pytest.raises(BadLogin):
            asyncio.run(logins.open(f"nobody {i}", "wrong password", "here"))
    with pytest.raises(TooManyTries):
        asyncio.run(logins.open("bea", PASSWORD, "here"))
    assert asyncio.run(logins.open("bea", PASSWORD, "there"))[0].name == "bea"


@pytest.mark.usefixtures("accounts")
def test_parallel_guesses_do_not_outrun_the_limit(store: Store) -> None:
    async def guess_at_once() -> list[BaseException]:
        logins = Logins(store)
        guesses = (logins.open("ann", "wrong password", "here") for _ in range(20))
        return await asyncio.gather(*guesses, return_exceptions=True)  # type: ignore[return-value]

    outcomes = [type(outcome) for outcome in asyncio.run(guess_at_once())]
    assert outcomes.count(BadLogin) == 5
    assert outcomes.count(TooManyTries) == 15


@pytest.mark.usefixtures("accounts")
def test_right_passwords_at_once_take_nobody_elses_turn(store: Store) -> None:
    async def log_in_at_once() -> list[object]:
        logins = Logins(store)
        flood = [logins.open("ann", PASSWORD, "here") for _ in range(100)]
        return await asyncio.gather(*flood, logins.open("bea", PASSWORD, "there"), return_exceptions=True)

    *flood, bea = asyncio.run(log_in_at_once())
    kinds = [type(outcome) for outcome in flood]
    assert kinds.count(tuple) == WAITING_OF_ONE and kinds.count(TooManyTries) == 100 - WAITING_OF_ONE
    assert isinstance(bea, tuple)


@pytest.mark.usefixtures("accounts")
def test_an_account_logs_in_at_a_pace(store: Store) -> None:
    logins = Logins(store)
    for _ in range(LOGINS_A_MINUTE):
        asyncio.run(logins.open("ann", PASSWORD, "here"))
    with pytest.raises(TooManyTries):
        for _ in range(LOGINS_A_MINUTE // 2):
            asyncio.run(logins.open("ann", PASSWORD, "here"))
    assert asyncio.run(logins.open("bea", PASSWORD, "here"))[0].name == "bea"


def test_an_account_has_so_many_sessions_and_the_longest_unused_goes(
    store: Store, accounts: dict[str, Annotator], clock: Clock
) -> None:
    store.annotators.open_session(accounts["bea"], token_hash("of bea"), 3600)
    for number in range(MOST_SESSIONS + 2):
        clock.now += 1
        store.annotators.open_session(accounts["ann"], token_hash(f"session {number}"), 3600)
        store.annotators.note_use(token_hash("session 0"))
    open_ones = [bool(account_of(store, f"session {number}")) for number in range(MOST_SESSIONS + 2)]
    assert open_ones == [True, False, False, *[True] * (MOST_SESSIONS - 1)]
    assert account_of(store, "of bea") == accounts["bea"]


@pytest.mark.usefixtures("accounts")
def test_right_passwords_are_not_counted(store: Store) -> None:
    logins = Logins(store)
    for _ in range(8):
        asyncio.run(logins.open("ann", PASSWORD, "here"))


def test_require(store: Store, accounts: dict[str, Annotator]) -> None:
    assert require(store, accounts["ann"].id) == accounts["ann"]
    assert require(store, "adam", "admin") == accounts["adam"]
    for name, roles in ((None, ()), ("", ()), ("nobody", ()), ("ann", ("admin",)), ("ann", ("admin", "researcher"))):
        with pytest.raises(Forbidden):
            require(store, name, *roles)  # type: ignore[arg-type]
    store.annotators.set_active(accounts["adam"], False)
    with pytest.raises(Forbidden):
        require(store, "adam", "admin")


def test_json_login_sets_the_cookie(client: TestClient) -> None:
    answer = client.post("/login", json={"name": "Ann", "password": PASSWORD})
    assert (answer.status_code, answer.json()) == (200, {"name": "ann", "role": "annotator"})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "Secure" not in cookie
    assert {part.strip() for part in cookie.split(";")[1:]} == {
        "HttpOnly", "SameSite=strict", f"Max-Age={SESSION_SECONDS}", "Path=/",
    }  # fmt: skip
    assert client.get("/api/me").json()["name"] == "ann"


def test_over_https_the_cookie_is_secure(client: TestClient) -> None:
    client.base_url = "https://testserver"  # type: ignore[assignment]
    assert "Secure" in client.post("/login", json={"name": "ann", "password": PASSWORD}).headers["set-cookie"]


def test_form_login_leads_to_the_page(client: TestClient) -> None:
    answer = client.post("/login", data={"name": "ann", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/app/annotate/")
    assert client.get("/api/me").status_code == 200
    answer = client.post("/login", data={"name": "ann", "password": PASSWORD, "next": "/app/history"})
    assert answer.headers["location"] == "/app/history"


def test_a_wrong_password_and_an_unknown_name_look_the_same(client: TestClient) -> None:
    wrong = client.post("/login", json={"name": "ann", "password": "wrong password"})
    unknown = client.post("/login", json={"name": "nobody", "password": "wrong password"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json() == {"error": "Name or password is wrong; try again.", "code": "bad_login"}
    page = client.post("/login", data={"name": '"><script>x</script>', "password": "wrong password"})
    assert page.status_code == 401
    assert "Name or password is wrong" in page.text and "<script>" not in page.text


def test_a_wrong_password_and_an_unknown_name_write_the_same_to_the_disk(client: TestClient, store: Store) -> None:
    """A commit takes time that can be measured."""
    for name in ("ann", "nobody"):
        before = store.db["events"].count
        assert client.post("/login", json={"name": name, "password": "wrong password"}).status_code == 401
        assert store.db["events"].count == before + 1 and store.events.newest(1)[0].kind == "login refused"


def test_too_many_tries_over_http(client: TestClient) -> None:
    for _ in range(5):
        client.post("/login", json={"name": "ann", "password": "wrong password"})
    answer = client.post("/login", json={"name": "ann", "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
    assert client.post("/login", data={"name": "ann", "password": PASSWORD}).status_code == 429


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"name": "ann"}', '{"name": 1, "password": "x"}', '{"name": "a\\ud800", "password": "x"}']
)
def test_a_malformed_login_is_one_sentence(client: TestClient, body: str) -> None:
    answer = client.post("/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "code"} and "\n" not in answer.json()["error"]


def test_a_form_that_is_not_one_is_refused(client: TestClient) -> None:
    assert client.post("/login", data={}).status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/login", content=b"--x\r\nnonsense", headers=broken).status_code in (400, 422)
    assert client.post("/login", files={"name": ("a.txt", b"ann")}).status_code in (400, 422)


def test_a_new_login_ends_the_earlier_session_of_the_browser(store: Store, client: TestClient) -> None:
    log_in(client, "ann")
    first = client.cookies[COOKIE]
    log_in(client, "bea")
    assert account_of(store, first) is None
    assert client.get("/api/me").json()["name"] == "bea"


def test_logout_ends_this_session_only(as_account: Callable[[str], TestClient]) -> None:
    here, there = as_account("ann"), as_account("ann")
    token = here.cookies[COOKIE]
    answer = here.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert here.get("/api/me").status_code == 401
    assert here.get("/api/me", headers={"cookie": f"{COOKIE}={token}"}).status_code == 401
    assert there.get("/api/me").status_code == 200
    assert there.get("/logout").status_code == 405


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("/app/history", "/app/history"),
        ("/ops/?x=1", "/ops/?x=1"),
        ("//evil.example", None),
        ("///evil.example", None),
        ("/\\evil.example", None),
        ("https://evil.example/", None),
        ("javascript:alert(1)", None),
        ("app", None),
        ("//[", None),
        ("/é", None),
        ("/app\r\nSet-Cookie: x=1", None),
        ("/\tx", None),
        ("", None),
    ],
)
def test_a_login_leads_to_this_server_only(wanted: str, given: str | None) -> None:
    assert local(wanted) == (given or "/app/annotate/")


def test_simulated_accounts_log_in_like_people(store: Store, client: TestClient) -> None:
    add_account(store, "robot", simulated=True)
    assert log_in(client, "robot").get("/api/me").json()["name"] == "robot"
