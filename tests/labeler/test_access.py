"""Nobody gets in who does not belong: guessable passwords, links, sessions, limits, what a proxy says."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from labeler import accounts as accounts_module
from labeler.accounts import (
    COOKIE,
    IDLE_SECONDS,
    LINKS_A_MINUTE,
    SESSION_SECONDS,
    Forbidden,
    GuessablePassword,
    Logins,
    hash_password,
    token_hash,
)
from labeler.care import BadName, invite, reset
from labeler.pages import ops
from labeler.settings import BadSettings, Settings
from labeler.strength import is_guessable
from labeler.web import build_api
from preferences.errors import NameTaken
from preferences.records import Annotator
from preferences.store import Store
from tests.labeler.conftest import PASSWORD, Clock, add_account, log_in
from tests.labeler.test_join import token_of
from tests.labeler.test_main import Run, refused, run  # noqa: F401

pytestmark = [pytest.mark.security, pytest.mark.smoke]
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
OURS, MALLORY = "198.51.100.7", "203.0.113.66"


def labeler_of(store: Store, **settings: Any) -> TestClient:
    """Nobody, at a labeler with those settings."""
    return TestClient(build_api(store, Settings(**settings), {}), follow_redirects=False)


@pytest.mark.parametrize(
    "password",
    [
        "password", "12345678", "qwertyuiop", "aaaaaaaa", "abcdefgh", "p@ssw0rd", "Password1!", "iloveyou", "letmein1",
        "1q2w3e4r", "11111111", "abcabcabc", "87654321", "asdfghjkl", "sunshine1", "19871987", "qwerty123", "football",
        "zaq12wsx", "ann12345", "magdalena", "magdalena1", "rankloop", "labeler1",
    ],
)  # fmt: skip
def test_a_password_that_is_tried_first_is_refused(password: str) -> None:
    with pytest.raises(GuessablePassword):
        hash_password(password, CHEAP, "ann" if "ann" in password else "Magdalena")


@pytest.mark.parametrize(
    "password",
    [PASSWORD, "correct horse", "kT9#xq2m", "violet tram 41", "ありがとう水曜日の猫", "twelve blue trams " * 50],
)
def test_any_other_password_will_do(password: str) -> None:
    assert not is_guessable(password, "magdalena")
    assert hash_password(password, CHEAP).startswith("$argon2id$")


def test_a_login_page_and_a_command_refuse_it_with_one_sentence(store: Store, run: Run) -> None:  # noqa: F811
    ((_, link),) = invite(store, "zoe", "annotator", 7, (), "http://labeler/")
    client = labeler_of(store)
    answer = client.post("/join", data={"token": token_of(link), "password": "password1", "again": "password1"})
    assert answer.status_code == 422 and "easy to guess" in answer.text
    add = ("people", "add", "bob", "--role", "annotator", "--password-stdin", "--db", store.path)
    refused(run(*add, stdin="password1\n"), "easy to guess")
    refused(run(*add, stdin="bob12345\n"), "easy to guess")


def test_the_event_loop_goes_on_while_a_password_is_hashed(store: Store, accounts: dict[str, Annotator]) -> None:
    loop_thread, hashed_in = threading.get_ident(), []

    async def log_in_and_tick() -> int:
        logins, ticks = Logins(store), 0
        login = asyncio.create_task(logins.open("ann", PASSWORD, "here"))
        while not login.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert login.result()[0] == accounts["ann"]
        return ticks

    plain = accounts_module.password_matches

    def slow(stored: str, password: str) -> bool:
        hashed_in.append(threading.get_ident())
        time.sleep(0.2)
        return plain(stored, password)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts_module, "password_matches", slow)
        assert asyncio.run(log_in_and_tick()) > 20
    assert hashed_in and loop_thread not in hashed_in


def test_a_session_ends_when_nobody_uses_it(client: TestClient, clock: Clock) -> None:
    ann = log_in(client, "ann")
    for _ in range(4):
        clock.now += IDLE_SECONDS * 0.85  # 3.4 hours in all
        assert ann.get("/api/me").status_code == 200
    clock.now += IDLE_SECONDS + 1
    assert ann.get("/api/me").status_code == 401


def test_a_session_ends_however_much_it_is_used(client: TestClient, clock: Clock) -> None:
    ann = log_in(client, "ann")
    began = clock.now
    while clock.now < began + SESSION_SECONDS - IDLE_SECONDS / 2:
        clock.now += IDLE_SECONDS / 2
        assert ann.get("/api/me").status_code == (200 if clock.now < began + SESSION_SECONDS else 401)
    clock.now += IDLE_SECONDS / 2 + 1
    assert ann.get("/api/me").status_code == 401


def test_a_session_whose_use_cannot_be_noted_goes_on(client: TestClient, store: Store, clock: Clock) -> None:
    ann = log_in(client, "ann")
    clock.now += IDLE_SECONDS / 2
    with store.write() as db:
        db.execute("ALTER TABLE sessions RENAME COLUMN last_seen TO seen")
        db.execute("ALTER TABLE sessions ADD COLUMN last_seen REAL AS (seen)")  # it can be read and not written
    assert ann.get("/api/me").status_code == 200


def test_every_session_of_an_account_can_be_ended(
    as_account: Callable[[str], TestClient],
    store: Store,
    run: Run,  # noqa: F811
) -> None:
    here, there, bea = as_account("ann"), as_account("ann"), as_account("bea")
    said = run("people", "logout", "ann", "--json", "--db", store.path)
    assert json.loads(said[1]) == {"name": "ann", "sessions": 2}
    assert [one.get("/api/me").status_code for one in (here, there, bea)] == [401, 401, 200]
    assert log_in(here, "ann").get("/api/me").status_code == 200


def test_after_a_reset_the_old_password_is_void_and_the_link_sets_another(
    as_account: Callable[[str], TestClient],
    client: TestClient,
    store: Store,
    run: Run,  # noqa: F811
) -> None:
    ann = as_account("ann")
    said = json.loads(run("people", "reset", "ann", "--address", "http://labeler", "--json", "--db", store.path)[1])
    assert ann.get("/api/me").status_code == 401
    assert client.post("/login", json={"name": "ann", "password": PASSWORD}).status_code == 401
    new = {"token": token_of(said["link"]), "password": "quite another one", "again": "quite another one"}
    assert client.post("/join", data=new).status_code == 303
    assert client.get("/api/me").json()["name"] == "ann"
    assert client.post("/join", data=new).status_code == 410
    assert store.annotators.get("ann").role == "annotator"


def test_a_link_of_a_reset_runs_out(
    client: TestClient, store: Store, accounts: dict[str, Annotator], clock: Clock
) -> None:
    token = token_of(reset(store, accounts["ann"], 2, "http://labeler/", accounts["adam"]))
    clock.now += 2 * 24 * 3600
    assert client.get(f"/join?token={token}").status_code == 410


def test_only_admins_reset_and_nobody_takes_a_reset_account_over_by_inviting_it(
    store: Store, accounts: dict[str, Annotator]
) -> None:
    rita = add_account(store, "rita", "researcher")
    with pytest.raises(Forbidden):
        reset(store, accounts["adam"], 2, "", rita)
    reset(store, accounts["adam"], 2, "", accounts["adam"])
    with pytest.raises(NameTaken):
        invite(store, "adam", "annotator", 7, (), "", rita)
    assert store.annotators.get("adam").role == "admin"
    store.annotators.set_active(accounts["ann"], False)
    with pytest.raises(BadName):
        reset(store, store.annotators.get("ann"), 2, "")
    with pytest.raises(BadName):
        reset(store, accounts["bea"], 0, "")


def test_an_admin_resets_ends_closes_and_opens_on_the_page(
    as_account: Callable[[str], TestClient], store: Store, accounts: dict[str, Annotator]
) -> None:
    ann, adam = as_account("ann"), accounts["adam"]
    asked = SimpleNamespace(username=adam.id, headers={"origin": "https://rank.example", "x-rankloop-root": "/study-1"})
    assert ops.end_sessions(store, "ann", asked)[0] == "1 sessions of ann are ended."  # type: ignore[arg-type]
    assert ann.get("/api/me").status_code == 401
    link = ops.reset_password(store, "ANN", asked)[0]  # type: ignore[arg-type]
    assert link.startswith("ann\thttps://rank.example/study-1/join?token=")
    assert ops.close_account(store, "ann", asked)[0] == "ann cannot log in any more."  # type: ignore[arg-type]
    assert not store.annotators.get("ann").active
    assert "let them in first" in ops.reset_password(store, "ann", asked)[0]  # type: ignore[arg-type]
    assert ops.open_account(store, "ann", asked)[0] == "ann may log in again."  # type: ignore[arg-type]
    assert "ask another admin" in ops.close_account(store, "adam", asked)[0]  # type: ignore[arg-type]
    assert "no account" in ops.end_sessions(store, "nobody", asked)[0]  # type: ignore[arg-type]
    acts = [event.kind for event in store.events.newest(50) if event.actor == adam.id]
    assert acts == ["account opened", "account closed", "password taken", "sessions ended"]


def test_too_many_wrong_links_close_the_address(client: TestClient, store: Store) -> None:
    ((_, link),) = invite(store, "zoe", "annotator", 7, (), "http://labeler/")
    for number in range(LINKS_A_MINUTE):
        made_up = {"token": f"made up {number}"}
        ask = client.get("/join", params=made_up) if number % 2 else client.post("/join", data=made_up)
        assert ask.status_code == 410
    for answer in (client.get(f"/join?token={token_of(link)}"), client.post("/join", data={"token": token_of(link)})):
        assert answer.status_code == 429 and "Too many tries" in answer.text


def test_right_links_are_not_counted(client: TestClient, store: Store) -> None:
    ((_, link),) = invite(store, "zoe", "annotator", 7, (), "http://labeler/")
    for _ in range(2 * LINKS_A_MINUTE):
        assert client.get(f"/join?token={token_of(link)}").status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"root_path": "rank"}, {"root_path": "/rank/"}, {"root_path": '/"><script>'}, {"root_path": "/app"},
        {"root_path": "/api/x"}, {"root_path": "//x"}, {"trusted_proxies": ("somewhere",)}, {"idle_seconds": 0},
        {"hosts": ("https://rank.example",)}, {"hosts": ("rank.example:443",)}, {"connections_here": 0},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_one_sentence(settings: dict[str, Any], run: Run) -> None:  # noqa: F811
    with pytest.raises(BadSettings):
        Settings(**settings)
    arguments = [
        part
        for name, value in settings.items()
        for part in (f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value]))
    ]
    status, out, err = run("serve", "--db", "nowhere/x.db", *arguments)
    assert (status, out) == (2, "") and "Traceback" not in err
    assert next(iter(settings)).split("_")[0] in err.lower()


def test_the_session_is_known_by_its_cookie_alone(store: Store, accounts: dict[str, Annotator]) -> None:
    store.annotators.open_session(accounts["ann"], token_hash("known"), 60)
    client = labeler_of(store)
    assert client.get("/api/me", headers={"cookie": f"{COOKIE}=known"}).status_code == 200
    for headers in ({"authorization": "Bearer known"}, {"x-session": "known"}, {"cookie": f"{COOKIE.upper()}=known"}):
        assert client.get("/api/me", headers=headers).status_code == 401
    assert client.get("/api/me", params={COOKIE: "known"}).status_code == 401
