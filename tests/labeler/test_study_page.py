"""The Study page: researchers and admins do there what `labeler study` does."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pillow

from labeler.accounts import COOKIE, Forbidden, token_hash
from labeler.pages import study as page
from preferences.images import image_of, reference
from preferences.records import Annotator, Comparison, random_id
from preferences.store import Store
from preferences.tables.rankings import Answer
from tests.labeler.conftest import Standing, add_account
from tests.preferences.make import add_comparison


@pytest.fixture
def rita(store: Store) -> Annotator:
    """A researcher."""
    return add_account(store, "rita", "researcher")


def as_who(account: Annotator) -> Any:
    return SimpleNamespace(username=account.id, headers={"origin": "https://rank.example"})


def test_a_study_is_made_and_changed(store: Store, rita: Annotator) -> None:
    store.studies.create("first")
    plan = "labels_heldout=2\nshared=0.5\n\n"
    prompts = "Why?\n\nWho wrote this?"
    said, table, menu, *_ = page.save_study(
        store, page.NEW, "second", "pairwise", 2, plan, "# Be fair", "We publish it.", [], ["rita"], prompts, as_who(rita)
    )  # fmt: skip
    made = store.studies.get("second")
    assert said == "Study second is saved, with 2 new prompts." and [row[0] for row in table] == ["first", "second"]
    assert menu.value == "second" and (made.mode, made.k, made.plan["labels_heldout"]) == ("pairwise", 2, 2)
    shown = page.choose(store, "second", as_who(rita))
    mode, k, text, guidelines, consent = shown[3:8]
    assert (mode, k, guidelines, consent) == ("pairwise", 2, "# Be fair", "We publish it.")
    assert shown[9].value == ["rita"] and store.studies.annotators(made) == [rita]
    text = text.replace("shared=0.5", "shared=0.25")
    page.save_study(store, "second", None, mode, k, text, "# Be kind", "", [], [], "", as_who(rita))
    assert store.studies.get("second").plan == {**made.plan, "shared": 0.25}
    assert [one.version for one in store.studies.guidelines(made)] == [1, 2] and store.studies.consent(made) is None
    assert store.studies.annotators(made) == []
    assert [prompt.messages[0]["content"] for prompt in store.prompts.all(study=made.id)] == ["Why?", "Who wrote this?"]
    before = store.studies.get("second")
    bad = '{"messages": [{"role": "assistant", "content": "Yes."}]}'
    said = page.save_study(
        store, "second", None, mode, k, "labels_train=3", "", "", [], [], f"Fine?\n{bad}", as_who(rita)
    )[0]
    assert said.startswith("Line 2 of the prompts: ") and store.studies.get("second") == before
    assert len(store.prompts.all(study=made.id)) == 2
    assert {event.actor for event in store.events.newest(1)} <= {rita.id, ""}


def test_a_mistake_is_told_and_changes_nothing(store: Store, rita: Annotator) -> None:
    said = page.save_study(
        store, page.NEW, "x", "ranking", 4, "shared=9\nlabels_train=0", "", "", [], [], "", as_who(rita)
    )[0]
    assert "'shared'" in said and "'labels_train'" in said
    assert store.studies.all() == []
    for handler in (page.pause_study, page.requeue_old):
        assert "no study" in handler(store, "absent", as_who(rita))[0]


def test_status_exclusion_and_invitations(
    store: Store, rita: Annotator, accounts: dict[str, Annotator], comparisons: dict[int, Comparison]
) -> None:
    who = as_who(rita)
    for handler, status in ((page.pause_study, "paused"), (page.resume_study, "active"), (page.close_study, "closed")):
        handler(store, "main", who)
        assert store.studies.get("main").status == status
    comparison = comparisons[3]
    lease = store.queue.lease(comparison.id, accounts["ann"], comparison.items, 60)
    store.rankings.submit(
        accounts["ann"], Answer(comparison.id, lease.id, "nonce-one", [[item] for item in comparison.items], 36_000)
    )
    assert page.look(store, who)[11] == [["ann", "1", "0.01", ""]]
    assert "Say why" in page.exclude_annotator(store, "main", "ann", " ", who)[0]
    assert page.exclude_annotator(store, "main", "ann", "at random", who)[11] == [["ann", "1", "0.01", "at random"]]
    assert store.rankings.current() == []
    (made,) = store.exclusions.all(store.studies.get("main"))
    assert made.actor == rita.id
    page.include_annotator(store, "main", "ann", who)
    assert len(store.rankings.current()) == 1
    said, links = page.invite_people(store, "zoe\nyan", "annotator", 7, "de, en", who)
    assert said == "2 people are invited." and links.count("https://rank.example/join?token=") == 2
    assert store.annotators.get("zoe").languages == ["de", "en"]
    said, links = page.invite_people(store, "boss", "admin", 7, "", who)
    assert "Only an admin" in said and links == "" and store.annotators.find("boss") is None


def test_an_annotator_does_none_of_it(store: Store, accounts: dict[str, Annotator]) -> None:
    with pytest.raises(Forbidden):
        page.invite_people(store, "zoe", "annotator", 7, "", as_who(accounts["ann"]))
    assert store.annotators.find("zoe") is None


@pytest.fixture
def rita_at(standing: Standing) -> Iterator[TestClient]:
    """A researcher at the whole labeler."""
    account = standing.store.annotators.find("rita") or add_account(standing.store, "rita", "researcher")
    token = random_id()
    standing.store.annotators.open_session(account, token_hash(token), 3600)
    yield TestClient(standing.app, headers={"cookie": f"{COOKIE}={token}"})


def test_a_researcher_has_the_page_and_its_downloads_and_not_the_accounts(
    rita_at: TestClient, standing: Standing
) -> None:
    assert rita_at.get("/study/").status_code == 200 and rita_at.get("/ops/").status_code == 403
    (study,) = rita_at.get("/api/studies").json()
    hours = rita_at.get(f"/api/studies/{study['id']}/hours.csv")
    assert hours.status_code == 200 and hours.text.startswith("annotator,simulated,rankings")
    assert "attachment" in hours.headers["content-disposition"]
    empty = rita_at.get(f"/api/studies/{study['id']}/rankings.jsonl")
    assert empty.status_code == 400 and "Traceback" not in empty.text
    store = standing.store
    comparison = store.comparisons.all()[0]
    lease = store.queue.lease(comparison.id, standing.accounts["bea"], comparison.items, 60)
    store.rankings.submit(
        standing.accounts["bea"], Answer(comparison.id, lease.id, "nonce-two", [[item] for item in comparison.items])
    )
    before = set(Path("/tmp").glob("rankloop-*"))
    lines = rita_at.get(f"/api/studies/{study['id']}/rankings.jsonl").text.splitlines()
    assert len(lines) == 1 and "bea" not in lines[0]  # pseudonyms
    assert set(Path("/tmp").glob("rankloop-*")) == before


def test_rankings_of_prompts_with_pictures_are_downloaded_with_them(rita_at: TestClient, standing: Standing) -> None:
    store = standing.store
    file = io.BytesIO()
    Pillow.new("RGB", (8, 8), "red").save(file, "PNG")
    picture = image_of(file.getvalue())
    store.images.add([picture])
    made = add_comparison(store, store.studies.all()[0], f"Which? {reference(picture.id, 'a red one')}", ("a", "b"))
    store.rankings.add_imported(standing.accounts["bea"], made, [[item] for item in made.items])
    before = set(Path("/tmp").glob("rankloop-*"))
    reply = rita_at.get(f"/api/studies/{made.study}/rankings.jsonl")
    assert reply.headers["content-disposition"].endswith('filename="rankings.zip"')
    with zipfile.ZipFile(io.BytesIO(reply.content)) as packed:
        records = [json.loads(line) for line in packed.read("rankings.jsonl").splitlines()]
        assert [packed.read(path) for record in records for path in record["images"]] == [picture.data]
    assert set(Path("/tmp").glob("rankloop-*")) == before
