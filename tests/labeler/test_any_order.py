"""The API, whatever annotators send and admins do, in any order: what holds of the store holds of what is answered."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from labeler import replies
from labeler.accounts import COOKIE, token_hash
from labeler.assignment import LEASE_SECONDS
from labeler.settings import Settings
from labeler.web import build_api
from preferences.records import LABELS
from preferences.store import Store
from tests.labeler.conftest import SECRETS, Clock, add_account, add_comparison, add_study
from tests.preferences.administered import Administered
from tests.preferences.truth import Overlap, Truth

pytestmark = pytest.mark.security
SEATS = st.integers(0, 2)
ORDERS = st.permutations([0, 1, 2])
BACK = st.sampled_from([0, 0, 0, 1, 2])  # how many before the newest
PLANS = st.fixed_dictionaries(
    {
        "labels_train": st.integers(1, 2),
        "shared": st.sampled_from([0.0, 0.5]),
        "labels_shared": st.just(3),
        "adjudicate": st.booleans(),
        "repeats": st.sampled_from([0.0, 1.0]),
        "repeat_gap": st.just(0),
        "qualification": st.just(0),
        "gold": st.just(1.0),
        "quota": st.sampled_from([0, 0, 3]),
    }
)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Room:
    """A labeler in this process that every example begins anew; `blank`: its database as it was made."""

    store: Store
    clock: Clock
    client: TestClient
    blank: sqlite3.Connection

    def begin(self) -> None:
        """Everything is as it was at first."""
        self.blank.backup(self.store.db.conn)
        self.clock.now = Clock().now


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    clock = Clock()
    store = Store(tmp_path_factory.mktemp("room") / "labels.db", clock)
    study = add_study(store)
    for number in range(2):
        add_comparison(store, study, f"Question {number} {number * 7919}?", [f"{number} {one}" for one in "abc"])
    for name in ("seat-0", "seat-1", "seat-2"):
        store.annotators.open_session(add_account(store, name), token_hash(name), 1e9)
    app = build_api(store, Settings(idle_seconds=10**9, requests_a_minute=10**9, requests_a_minute_here=10**9), {})
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as blank, TestClient(app) as client:
        store.db.conn.backup(blank)
        yield Room(store, clock, client, blank)
    store.close()


class Desk(Administered, RuleBasedStateMachine):
    """One study, three annotators with a browser each, and an admin."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.room, self.store, self.clock = room, room.store, room.clock
        room.begin()
        self.overlap, self.nonces = Overlap(), 0
        self.people = [self.store.annotators.get(f"seat-{seat}") for seat in range(3)]
        self.study = self.store.studies.default()
        self.tasks: list[list[Json]] = [[], [], []]  # all that each seat was ever given, with the "seat"
        self.saved: list[Json] = []  # requests that were acknowledged: "seat", "path", "body", "id"
        self.closed: set[int] = set()

    @initialize(plan=PLANS)
    def open(self, plan: Json) -> None:
        self.study = self.store.studies.edit(self.study, plan=plan)

    def call(self, seat: int, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """Nothing tells where an answer comes from; whoever is shut out gets nothing at all."""
        reply = self.room.client.request(method, path, json=body, headers={"cookie": f"{COOKIE}=seat-{seat}"})
        assert not [secret for secret in SECRETS if secret in reply.text]
        if seat in self.closed:
            assert reply.status_code == 401
        elif reply.status_code != 200:
            assert reply.status_code in (404, 409), reply.text
            replies.Failure.model_validate(reply.json())
        return reply

    def may(self, task: Json, with_order: bool) -> bool:
        """Whether an answer to the task would be stored."""
        truth, owner = self.truth(), self.people[task["seat"]].id
        purposes = {row["id"]: row["purpose"] for row in truth.leases}
        return (
            task["seat"] not in self.closed
            and truth.is_open(task["lease"], owner, task["comparison"])
            and (not with_order or truth.has_place(task["comparison"], owner, purposes[task["lease"]]))
        )

    def shown(self, seat: int, page: Json) -> None:
        """The task of a page, which is the annotator's, and for whose answer there is a place."""
        replies.Page.model_validate(page)
        assert (page["state"] == "ranking") == (page["task"] is not None)
        self.give(seat, page["task"])

    def give(self, seat: int, task: Json | None) -> None:
        if task:
            assert self.may({**task, "seat": seat}, with_order=True)
            self.tasks[seat] = [
                *(one for one in self.tasks[seat] if one["lease"] != task["lease"]),
                {**task, "seat": seat},
            ]

    def picked(self, seat: int, back: int) -> list[Json]:
        """That task of all that the seat was ever given, if there are so many."""
        return self.tasks[seat][-1 - back :][:1]

    # -- annotators ---------------------------------------------------------------------------------------------------

    @rule(seat=SEATS)
    def next(self, seat: int) -> None:
        reply = self.call(seat, "GET", "/api/next")
        if reply.status_code == 200:
            self.shown(seat, reply.json())

    @rule(seat=SEATS)
    def ahead(self, seat: int) -> None:
        reply = self.call(seat, "GET", "/api/ahead")
        if reply.status_code == 200:
            replies.Ahead.model_validate(reply.json())
            self.give(seat, reply.json()["task"])

    @rule(seat=SEATS, back=BACK, order=ORDERS)
    def draft(self, seat: int, back: int, order: list[int]) -> None:
        """Kept exactly while the task is theirs; shown with it the next time."""
        for task in self.picked(seat, back):
            tiers = [[task["responses"][order[0]]["id"]]]
            may = self.may(task, with_order=False)
            body = {"comparison": task["comparison"], "lease": task["lease"], "tiers": tiers}
            reply = self.call(seat, "POST", "/api/draft", body)
            assert (reply.status_code == 200) == may
            if may:
                replies.Drafted.model_validate(reply.json())
                kept = self.store.queue.draft(task["comparison"], self.people[seat])
                assert kept is not None and kept.body == {"tiers": tiers}

    @rule(seat=SEATS, back=BACK, order=ORDERS)
    def submit(self, seat: int, back: int, order: list[int]) -> None:
        for task in self.picked(seat, back):
            tiers = [[task["responses"][place]["id"]] for place in order]
            self.answer(task, "/api/submit", {"tiers": tiers}, with_order=True)

    @rule(seat=SEATS, back=BACK)
    def skip(self, seat: int, back: int) -> None:
        for task in self.picked(seat, back):
            self.answer(task, "/api/skip", {"reason": "I cannot tell."}, with_order=False)

    def answer(self, task: Json, path: str, said: Json, with_order: bool) -> None:
        """Acknowledged and stored, or refused."""
        may, seat = self.may(task, with_order), task["seat"]
        body = {"comparison": task["comparison"], "lease": task["lease"], "nonce": self.nonce(), **said}
        reply = self.call(seat, "POST", path, body)
        assert (reply.status_code == 200) == may, reply.text
        if may:
            replies.Answered.model_validate(reply.json())
            ident = reply.json()["saved"]
            self.saved.append({"seat": seat, "path": path, "body": body, "id": ident})
            assert self.call(seat, "GET", "/api/history").json()["answers"][0]["id"] == ident
            self.shown(seat, reply.json()["next"])

    @rule(back=BACK)
    def send_again(self, back: int) -> None:
        """A retry is told what it stored the first time."""
        for sent in self.saved[-1 - back :][:1]:
            reply = self.call(sent["seat"], "POST", sent["path"], sent["body"])
            if sent["seat"] not in self.closed:
                assert (reply.status_code, reply.json()["saved"]) == (409, sent["id"])

    @rule(seat=SEATS)
    def undo(self, seat: int) -> None:
        truth, owner = self.truth(), self.people[seat].id
        newest = [act for act in truth.standing if act["annotator"] == owner][-1:]
        reply = self.call(seat, "POST", "/api/undo", {"nonce": self.nonce()})
        if reply.status_code != 200:
            counted = newest and newest[0]["purpose"] in LABELS and truth.counts_now(newest[0]["id"])
            assert seat in self.closed or not newest or not counted or self.is_over(truth, newest[0])
            return
        replies.Undone.model_validate(reply.json())
        assert [reply.json()["undone"]] == [act["id"] for act in newest]
        self.shown(seat, reply.json()["next"])

    def is_over(self, truth: Truth, act: Json) -> bool:
        """Whether an admin's act has left its comparison with more labels than are wanted."""
        place = (act["comparison"], act["purpose"], False)
        return truth.counts()[place] > truth.most(place)

    @rule(seat=SEATS, back=BACK)
    def reopen(self, seat: int, back: int) -> None:
        """Nobody reopens what is another's, or was taken back."""
        for sent in self.saved[-1 - back :][:1]:
            truth = self.truth()
            standing = {act["id"]: act["annotator"] for act in truth.standing}
            theirs = standing.get(sent["id"]) == self.people[seat].id
            reply = self.call(seat, "POST", "/api/reopen", {"ranking": sent["id"]})
            if reply.status_code != 200:
                assert seat in self.closed or not theirs or not truth.counts_now(sent["id"])
                return
            assert theirs
            replies.Following.model_validate(reply.json())
            assert reply.json()["next"]["task"]["draft"] is not None
            self.shown(seat, reply.json()["next"])

    @rule(seat=SEATS, order=ORDERS)
    def rank(self, seat: int, order: list[int]) -> None:
        """What mostly follows one another."""
        self.next(seat)
        self.submit(seat, 0, order)

    @rule(back=BACK, order=ORDERS)
    def change(self, back: int, order: list[int]) -> None:
        """An answer of whoever gave it."""
        for sent in self.saved[-1 - back :][:1]:
            self.reopen(sent["seat"], back)
            self.submit(sent["seat"], 0, order)

    @rule(seat=SEATS, back=BACK)
    def renew(self, seat: int, back: int) -> None:
        for task in self.picked(seat, back):
            body = {"comparison": task["comparison"], "lease": task["lease"]}
            reply = self.call(seat, "POST", "/api/renew", body)
            if reply.status_code == 200:
                replies.Renewed.model_validate(reply.json())
                self.give(seat, {**task, "lease": reply.json()["lease"]})

    @rule(seat=SEATS, back=BACK)
    def release(self, seat: int, back: int) -> None:
        for task in self.picked(seat, back):
            may = self.may(task, with_order=False)
            body = {"comparison": task["comparison"], "lease": task["lease"]}
            reply = self.call(seat, "POST", "/api/release", body)
            assert (reply.status_code == 200) == may
            if may:
                self.shown(seat, reply.json()["next"])

    @rule(seat=SEATS, other=SEATS)
    def use_anothers_task(self, seat: int, other: int) -> None:
        for task in self.picked(other, 0) if other != seat and seat not in self.closed else ():
            body = {"comparison": task["comparison"], "lease": task["lease"]}
            for path, more in (
                ("renew", {}),
                ("release", {}),
                ("draft", {"tiers": []}),
                ("skip", {"reason": "x", "nonce": self.nonce()}),
            ):
                reply = self.call(seat, "POST", f"/api/{path}", {**body, **more})
                assert (reply.status_code, reply.json()["code"]) == (409, "not_leased")

    @rule(seat=SEATS)
    def agree(self, seat: int) -> None:
        """To whatever text there is."""
        version = self.call(seat, "GET", "/api/consent").json().get("version")
        if version:
            assert self.call(seat, "POST", "/api/consent", {"version": version}).status_code == 200

    # -- time and admins ----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, LEASE_SECONDS / 2, LEASE_SECONDS, LEASE_SECONDS + 60, -LEASE_SECONDS]))
    def wait(self, seconds: float) -> None:
        """A clock may also be set back."""
        self.clock.now += seconds

    exclude_or_lift = rule(seat=SEATS)(Administered.exclude_or_lift)
    change_the_plan = rule(plan=PLANS)(Administered.change_the_plan)

    @rule(seat=SEATS)
    def close_or_open(self, seat: int) -> None:
        """An account that is closed has no session any more."""
        self.store.annotators.set_active(self.people[seat], seat in self.closed)
        if seat in self.closed:
            self.store.annotators.open_session(self.people[seat], token_hash(f"seat-{seat}"), 1e9)
        self.closed ^= {seat}

    @rule(status=st.sampled_from(["active", "active", "paused", "closed"]))
    def pause_or_resume(self, status: str) -> None:
        self.store.studies.set_status(self.study, status)

    @rule(seats=st.sets(SEATS))
    def limit_to(self, seats: set[int]) -> None:
        self.store.studies.set_annotators(self.study, [self.people[seat] for seat in seats])

    @rule()
    def ask_again_under_new_guidelines(self) -> None:
        self.store.studies.set_guideline(self.study, f"Version {self.nonce()}")
        self.store.exclusions.requeue_outdated(self.study)

    @rule(text=st.sampled_from(["", "We keep what you rank.", "We keep it for ever."]))
    def ask_for_consent(self, text: str) -> None:
        self.store.studies.set_consent(self.study, text)

    # -- what holds after each of these -------------------------------------------------------------------------------

    @invariant()
    def nothing_is_over_lost_or_counted_wrongly(self) -> None:
        truth = self.truth()
        truth.check()
        self.overlap.check(truth)
        stored = {(act["id"], act["nonce"], act["annotator"]) for act in truth.acts}
        assert {(one["id"], one["body"]["nonce"], self.people[one["seat"]].id) for one in self.saved} <= stored


@pytest.mark.parametrize("examples", [pytest.param(8, marks=pytest.mark.smoke), 100])
def test_whatever_is_sent_in_any_order(room: Room, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labeler.tasks.SPARE", 0)
    run_state_machine_as_test(
        lambda: Desk(room),
        settings=settings(
            max_examples=examples, stateful_step_count=40, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        ),
    )  # fmt: skip
