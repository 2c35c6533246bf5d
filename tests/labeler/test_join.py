"""Invitations: thirty people from one paste, a link each, good once and for a time."""

import asyncio
import re
import threading

import pytest
from fastapi.testclient import TestClient

from labeler.accounts import COOKIE, Forbidden, GuessablePassword, Logins, TooManyTries, account_of
from labeler.care import BadName, invite, names_in
from labeler.turnstile import WAITING_OF_ONE
from preferences.errors import NameTaken
from preferences.records import Annotator
from preferences.store import Store
from tests.labeler.conftest import Clock

pytestmark = [pytest.mark.security, pytest.mark.smoke]
SECRET = "a password of mine"


def invited(store: Store, pasted: str = "zoe", days: float = 7.0) -> list[tuple[str, str]]:
    return invite(store, pasted, "annotator", days, ["de"], "http://labeler/")


def token_of(link: str) -> str:
    assert link.startswith("http://labeler/join?token=")
    return link.partition("=")[2]


def join(client: TestClient, token: str, password: str = SECRET, again: str | None = None) -> int:
    fields = {"token": token, "password": password, "again": password if again is None else again}
    return client.post("/join", data=fields).status_code


def test_thirty_people_are_invited_with_one_paste(store: Store) -> None:
    names = [f"person {number}" for number in range(30)]
    links = invited(store, "\n".join(names[:20]) + "\r\n" + ", ".join(names[20:25]) + ";" + " ; ".join(names[25:]))
    assert [name for name, _ in links] == names
    assert len({token_of(link) for _, link in links}) == 30
    accounts = [store.annotators.get(name) for name in names]
    assert {(account.role, account.password_hash, tuple(account.languages)) for account in accounts} == {
        ("annotator", "", ("de",))
    }
    kept = [row["token_hash"] for row in store.db["invites"].rows]
    assert len(kept) == 30 and not set(kept) & {token_of(link) for _, link in links}


def test_whoever_opens_the_link_sets_a_password_and_is_in(client: TestClient, store: Store) -> None:
    ((_, link),) = invited(store, "zoë <b>")
    token = token_of(link)
    page = client.get(f"/join?token={token}")
    assert page.status_code == 200 and "zoë &lt;b&gt;" in page.text and "<b>" not in page.text
    answer = client.post("/join", data={"token": token, "password": SECRET, "again": SECRET})
    assert (answer.status_code, answer.headers["location"]) == (303, "/app/annotate/")
    assert COOKIE in answer.cookies and client.get("/api/me").json()["name"] == "zoë <b>"
    for again in (client.get(f"/join?token={token}").status_code, join(client, token, "another password")):
        assert again == 410  # once
    client.cookies.clear()
    assert client.post("/login", json={"name": "zoë <b>", "password": SECRET}).status_code == 200


def test_an_invited_account_cannot_log_in_before(client: TestClient, store: Store) -> None:
    invited(store)
    assert client.post("/login", json={"name": "zoe", "password": SECRET}).status_code == 401


@pytest.mark.parametrize(
    ("password", "again", "words"), [("short", "short", "at least 8"), (SECRET, "another password", "differ")]
)
def test_a_bad_password_leaves_the_link_good(
    client: TestClient, store: Store, password: str, again: str, words: str
) -> None:
    ((_, link),) = invited(store)
    answer = client.post("/join", data={"token": token_of(link), "password": password, "again": again})
    assert answer.status_code == 422 and words in answer.text
    assert join(client, token_of(link)) == 303


def test_a_link_runs_out_and_a_new_one_ends_the_old(client: TestClient, store: Store, clock: Clock) -> None:
    ((_, first),) = invited(store)
    ((_, second),) = invited(store)
    assert client.get(f"/join?token={token_of(first)}").status_code == 410
    clock.now += 7 * 24 * 3600 - 1
    assert client.get(f"/join?token={token_of(second)}").status_code == 200
    clock.now += 1
    assert join(client, token_of(second)) == 410
    assert store.annotators.get("zoe").password_hash == ""
    ((_, third),) = invited(store)
    store.annotators.set_active(store.annotators.get("zoe"), False)
    assert join(client, token_of(third)) == 410


@pytest.mark.parametrize("token", ["", "x", "\u00e9", "x" * 500])
def test_a_made_up_link_opens_nothing(client: TestClient, token: str) -> None:
    assert client.get("/join", params={"token": token}).status_code == 410
    assert join(client, token) == 410


def test_nobody_takes_over_an_account_by_inviting_it(store: Store, accounts: dict[str, Annotator]) -> None:
    before = store.annotators.all()
    store.annotators.add("imported", "annotator", "")
    for name in ("adam", "ANN", "imported"):
        with pytest.raises(NameTaken):
            invited(store, f"newcomer\n{name}")
    assert {account.name for account in store.annotators.all()} == {account.name for account in before} | {"imported"}
    with pytest.raises(Forbidden):
        invite(store, "x", "admin", 7, (), "", store.annotators.add("rita", "researcher", "hash"))
    assert invite(store, "x", "researcher", 7, (), "", accounts["adam"])[0][0] == "x"


def test_what_is_no_name(store: Store) -> None:
    for pasted in ("", " \n,; ", "x" * 201, "a\x07b", "\n".join(map(str, range(1001)))):
        with pytest.raises(BadName):
            names_in(pasted)
    for days in (0.0, 366.0):
        with pytest.raises(BadName):
            invited(store, days=days)
    assert names_in("Ann\nann, Bea") == ["ann", "Bea"]


def test_what_a_link_writes_is_not_written_by_the_event_loop(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((_, link),) = invited(store)
    plain, threads = store.invites.use, []

    def spied(token: str, password: str) -> Annotator | None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        threads.append(threading.get_ident())
        return plain(token, password)

    monkeypatch.setattr(store.invites, "use", spied)
    assert join(client, token_of(link)) == 303
    assert len(threads) == 1


def test_one_link_takes_nobody_elses_turn(store: Store) -> None:
    ((_, link), (_, other)) = invited(store, "zoe\nyan")
    logins = Logins(store)

    async def join_at_once() -> list[object]:
        zoe, yan = (store.annotators.get(name) for name in ("zoe", "yan"))
        flood = [logins.join(zoe, token_of(link), "password1") for _ in range(50)]
        return await asyncio.gather(*flood, logins.join(yan, token_of(other), SECRET), return_exceptions=True)

    *flood, session = asyncio.run(join_at_once())
    kinds = [type(outcome) for outcome in flood]
    assert kinds.count(GuessablePassword) == WAITING_OF_ONE and kinds.count(TooManyTries) == 50 - WAITING_OF_ONE
    assert isinstance(session, str) and account_of(store, session) == store.annotators.get("yan")


def test_the_page_speaks_the_browser_s_language(client: TestClient, store: Store) -> None:
    ((_, link),) = invited(store)
    page = client.get(f"/join?token={token_of(link)}", headers={"accept-language": "ar"}).text
    assert 'dir="rtl"' in page and not re.search(r"%\(|\{name\}|\{min\}", page)
