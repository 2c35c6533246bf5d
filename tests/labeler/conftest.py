"""A small study with every size of comparison, its accounts, and clients that are logged in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient

from labeler.accounts import hash_password
from labeler.settings import Settings
from labeler.web import build_api
from preferences.records import Annotator, Comparison, Policy, Response, Study
from preferences.store import Store
from tests.conftest import PLAIN

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.labeler.browser import Labeler, Seat
    from tests.labeler.mortal import Mortal

PASSWORD = "correct horse battery"
SECRETS = (
    "policy-secret-sft",
    "policy-secret-ppo",
    "pid-secret-sft",
    "pid-secret-ppo",
    "987654321",
    "0.73125",
    "0.91375",
)


class Clock:
    """Seconds since the epoch that pass only when told to."""

    def __init__(self, now: float = 1_795_500_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    made = Store(tmp_path / "labels.db", clock)
    yield made
    made.close()


def add_account(store: Store, name: str, role: str = "annotator", simulated: bool = False) -> Annotator:
    """An account whose password is PASSWORD, hashed cheaply."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return store.annotators.add(name, role, hash_password(PASSWORD, cheap), simulated)  # type: ignore[arg-type]


def add_accounts(store: Store) -> dict[str, Annotator]:
    """ann and bea rank; adam is the admin."""
    return {
        "ann": add_account(store, "ann"),
        "bea": add_account(store, "bea"),
        "adam": add_account(store, "adam", "admin"),
    }


def add_study(store: Store) -> Study:
    """A study that two policies answer."""
    made = store.studies.create("main", k=4, plan=PLAIN)
    policies = [
        store.policies.add(Policy("pid-secret-sft", "policy-secret-sft", "sft")),
        store.policies.add(Policy("pid-secret-ppo", "policy-secret-ppo", "ppo")),
    ]
    store.studies.set_sampling_policies(made, policies)
    return made


def add_comparison(store: Store, study: Study, question: str, texts: list[str], priority: float = 0.0) -> Comparison:
    """A comparison of those answers, which two policies gave in turn; the prompt is never held out."""
    (prompt,) = store.prompts.add([{"messages": [{"role": "user", "content": question}]}], heldout=0.0)
    store.studies.add_prompts(study, [prompt])
    responses = [
        Response.make(
            prompt.id, ("pid-secret-sft", "pid-secret-ppo")[index % 2], text, 987654321, index,
            temperature=0.73125, top_p=0.91375, max_new_tokens=64, created=store.clock(),
        )
        for index, text in enumerate(texts)
    ]  # fmt: skip
    store.responses.add(responses)
    made = store.comparisons.add(study, prompt.id, responses, priority=priority)
    assert made is not None
    return made


def add_urgent(store: Store) -> Comparison:
    """A comparison that everybody gets first, on the topic "violence"."""
    (prompt,) = store.prompts.add(
        [{"messages": [{"role": "user", "content": "A battle?"}], "tags": ["violence"]}], heldout=0.0
    )
    made = add_comparison(store, store.studies.default(), "A battle?", ["x", "y"], priority=5)
    assert made.prompt == prompt.id
    return made


def add_comparisons(store: Store, study: Study) -> dict[int, Comparison]:
    """K -> a comparison of K answers, for K = 2..9."""
    things = ["river", "mountain", "desert", "island", "forest", "valley", "glacier", "harbour"]
    with store.write():
        return {
            k: add_comparison(
                store,
                study,
                f"Describe one {things[k - 2]} for a child of {k}.",
                [f"**Answer** {i} of {k}" for i in range(k)],
            )
            for k in range(2, 10)
        }


@pytest.fixture
def accounts(store: Store) -> dict[str, Annotator]:
    return add_accounts(store)


@pytest.fixture
def study(store: Store) -> Study:
    return add_study(store)


@pytest.fixture
def comparisons(store: Store, study: Study) -> dict[int, Comparison]:
    return add_comparisons(store, study)


@pytest.fixture
def client(store: Store, accounts: dict[str, Annotator]) -> Iterator[TestClient]:  # noqa: ARG001
    """Nobody, at a labeler without pages."""
    with TestClient(build_api(store, Settings(), {}), follow_redirects=False) as made:
        yield made


def log_in(client: TestClient, name: str) -> TestClient:
    """The same client, now with the session of that account."""
    answer = client.post("/login", json={"name": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return client


@pytest.fixture
def as_account(client: TestClient) -> Iterator[Callable[[str], TestClient]]:
    """Another browser at the same labeler, logged in."""
    yield lambda name: log_in(TestClient(client.app, follow_redirects=False), name)


@pytest.fixture
def ann(as_account: Callable[[str], TestClient], comparisons: dict[int, Comparison]) -> TestClient:  # noqa: ARG001
    """ann, with eight comparisons waiting."""
    return as_account("ann")


@dataclass(frozen=True, slots=True)
class Standing:
    """A whole labeler, Gradio pages included, that a module's tests share; they leave its accounts as they are."""

    store: Store
    accounts: dict[str, Annotator]
    app: FastAPI


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """With eight comparisons waiting."""
    from labeler.app import build_app

    store = Store(tmp_path_factory.mktemp("standing") / "labels.db")
    accounts = {**add_accounts(store), "rosa": add_account(store, "rosa", "researcher")}
    add_comparisons(store, add_study(store))
    app = build_app(store)
    with TestClient(app):
        yield Standing(store, accounts, app)
    store.close()


@pytest.fixture
def whole(standing: Standing) -> TestClient:
    """Nobody, at the standing labeler."""
    return TestClient(standing.app, follow_redirects=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One that a module's tests share; each has a context of its own."""
    from playwright.sync_api import sync_playwright

    from tests.labeler.browser import launch

    with sync_playwright() as playwright:
        made = launch(playwright)
        yield made
        made.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labeler]:
    """A labeler in a process of its own that a module's tests share."""
    from tests.labeler.browser import labeler

    with labeler(tmp_path_factory.mktemp("labeler")) as made:
        yield made


@pytest.fixture
def sit(browser: Browser, server: Labeler, request: pytest.FixtureRequest) -> Iterator[Callable[..., Seat]]:
    """A new annotator each time; at the end nothing has failed in the page and nobody else was asked for anything."""
    from tests.labeler.browser import Seat

    seats: list[Seat] = []

    def make(**options: Any) -> Seat:
        name = re.sub(r"\W", "-", f"{request.node.name}-{len(seats)}")
        seats.append(Seat(browser, server, name, **options))
        return seats[-1]

    yield make
    for seat in seats:
        assert seat.errors == []
        assert seat.outside == []
        seat.context.close()


@pytest.fixture
def begin() -> Iterator[Callable[..., Mortal]]:
    """A server on a database, in a process that can be killed; it ends with the test."""
    from tests.labeler.mortal import Mortal

    servers: list[Mortal] = []

    def make(db: Path, environment: dict[str, str] | None = None) -> Mortal:
        servers.append(Mortal(db, environment))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.close()
