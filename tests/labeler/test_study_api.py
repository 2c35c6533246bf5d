"""Guidelines, topics, messages to the owner, settings and pictures over the API."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labeler.guidelines import changed_lines
from preferences.images import image_of
from preferences.records import Annotator, Comparison, Study
from preferences.store import Store
from tests.labeler.conftest import add_urgent
from tests.preferences.test_images import file_of


def test_guidelines_are_versions_and_say_what_changed_since_the_last_visit(
    store: Store, study: Study, ann: TestClient, as_account: Callable[[str], TestClient]
) -> None:
    none = ann.get("/api/guidelines").json()
    assert (none["version"], none["html"], none["changes"]) == (0, "", [])
    store.studies.set_guideline(study, "# How\n\nBe fair.\n\n- short\n- <b>true</b>")
    first = ann.get("/api/guidelines").json()
    assert (first["version"], first["seen"], first["changes"]) == (1, 0, [])
    assert "<h1>How</h1>" in first["html"] and "&lt;b&gt;" in first["html"]
    assert ann.post("/api/guidelines", json={"version": 1}).json() == {"saved": True}
    store.studies.set_guideline(study, "# How\n\nBe fair and kind.\n\n- short")
    second = ann.get("/api/guidelines").json()
    assert (second["version"], second["seen"]) == (2, 1)
    assert second["changes"] == [
        {"kind": "removed", "text": "Be fair."},
        {"kind": "added", "text": "Be fair and kind."},
        {"kind": "removed", "text": "- <b>true</b>"},
    ]
    assert ann.get("/api/study").json()["guidelines"] == {"version": 2, "seen": 1}
    assert as_account("bea").get("/api/guidelines").json()["seen"] == 0


def test_lines_that_moved_or_are_blank_are_told_apart_from_those_that_stay() -> None:
    assert changed_lines("a\n\nb", "a\n\n\nb") == []
    assert changed_lines("a\nb", "b\na") == [{"kind": "added", "text": "b"}, {"kind": "removed", "text": "b"}]


def test_a_ranking_keeps_the_version_it_was_made_under(store: Store, study: Study, ann: TestClient) -> None:
    made = []
    for text in ("one", "two"):
        guideline = store.studies.set_guideline(study, text)
        task = ann.get("/api/next").json()["task"]
        body = {"comparison": task["comparison"], "lease": task["lease"], "nonce": f"nonce-{text}"}
        tiers = [[response["id"]] for response in task["responses"]]
        assert ann.post("/api/submit", json={**body, "tiers": tiers}).status_code == 200
        made.append(guideline.id)
    annotator = store.annotators.get("ann")
    assert [ranking.guideline for ranking in store.rankings.history(annotator)] == made[::-1]


def test_topics_are_warned_of_and_can_be_avoided(store: Store, study: Study, ann: TestClient) -> None:
    store.studies.edit(study, plan={"content_warnings": {"violence": "Violence in words", "grief": ""}})
    urgent = add_urgent(store)
    task = ann.get("/api/next").json()["task"]
    assert (task["comparison"], task["warnings"]) == (urgent.id, ["Violence in words"])
    topics = ann.get("/api/study").json()["topics"]
    assert topics == [
        {"tag": "violence", "text": "Violence in words", "avoided": False},
        {"tag": "grief", "text": "grief", "avoided": False},
    ]
    assert ann.post("/api/settings", json={"avoid": ["violence"]}).status_code == 200
    seen = set()
    for number in range(8):  # nothing else has that tag
        task = ann.get("/api/next").json()["task"]
        assert task["warnings"] == []
        seen.add(task["comparison"])
        body = {
            "comparison": task["comparison"],
            "lease": task["lease"],
            "nonce": f"nonce-skip-{number}",
            "reason": "x",
        }
        ann.post("/api/skip", json=body)
    assert len(seen) == 8 and urgent.id not in seen
    assert ann.get("/api/next").json()["state"] == "others"
    assert [topic["avoided"] for topic in ann.get("/api/study").json()["topics"]] == [True, False]
    ann.post("/api/settings", json={"avoid": []})
    assert ann.get("/api/next").json()["task"]["comparison"] == urgent.id


def test_a_message_reaches_the_owner_once(
    store: Store, ann: TestClient, comparisons: dict[int, Comparison], accounts: dict[str, Annotator]
) -> None:
    task = ann.get("/api/next").json()["task"]
    message = {"text": "The code\nis cut off.", "nonce": "nonce-of-it", "comparison": task["comparison"]}
    saved = {ann.post("/api/remark", json=message).json()["saved"] for _ in range(2)}
    (remark,) = store.remarks.all()
    assert saved == {remark.id}
    assert (remark.text, remark.comparison, remark.annotator) == (
        "The code\nis cut off.", task["comparison"], accounts["ann"].id
    )  # fmt: skip
    other = next(made.id for made in comparisons.values() if made.id != task["comparison"])
    refused = ann.post("/api/remark", json={**message, "nonce": "nonce-2-of-it", "comparison": other})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("remark", {"text": "  ", "nonce": "nonce-of-it"}),
        ("remark", {"text": "x" * 2001, "nonce": "nonce-of-it"}),
        ("remark", {"text": "x", "nonce": "short"}),
        ("guidelines", {"version": 0}),
        ("guidelines", {"version": "1"}),
        ("settings", {}),
        ("settings", {"language": "fr"}),
        ("settings", {"language": "../en"}),
        ("settings", {"avoid": "violence"}),
        ("settings", {"avoid": ["\ud800"]}),
        ("settings", {"guidelines_seen": {}}),
    ],
)
def test_what_makes_no_sense_is_refused(ann: TestClient, path: str, body: dict[str, Any]) -> None:
    import json

    answer = ann.post(f"/api/{path}", content=json.dumps(body), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_request")


def test_settings_that_are_not_named_stay_as_they_are(ann: TestClient) -> None:
    for change in ({"single_keys": False}, {"language": "ar"}, {"tour": True}, {"single_keys": True}):
        assert ann.post("/api/settings", json=change).json() == {"saved": True}
    assert ann.get("/api/me").json()["settings"] == {"single_keys": True, "language": "ar", "tour": True}
    ann.post("/api/settings", json={"language": None})
    assert ann.get("/api/me").json()["settings"] == {"single_keys": True, "tour": True}


def test_a_picture_comes_from_our_own_address_and_only_to_those_who_may_read(
    store: Store, client: TestClient, ann: TestClient
) -> None:
    image = image_of(file_of())
    store.images.add([image])
    answer = ann.get(f"/api/images/{image.id}")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/webp", image.data)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get(f"/api/images/{image.id}").status_code == 401
    assert ann.get(f"/api/images/{'0' * 40}").status_code == 404
    assert ann.get("/api/images/x").status_code == 422
    assert replace(image, created=0) == image


def test_nobody_gets_a_task_before_they_agreed_to_the_newest_text(
    store: Store, study: Study, clock: Callable[[], float], ann: TestClient, accounts: dict[str, Annotator]
) -> None:
    assert ann.get("/api/consent").json()["version"] == 0
    for version, text in enumerate(("We keep **what** you rank.", "We keep it for ten years."), start=1):
        kept = store.studies.set_consent(study, text)
        page = ann.get("/api/next").json()
        assert (page["state"], page["task"]) == ("consent", None)
        consent = ann.get("/api/consent").json()
        assert (consent["version"], consent["at"]) == (version, None)
        refused = ann.post("/api/consent", json={"version": version + 1})
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown")
        assert ann.post("/api/consent", json={"version": version}).json() == {"saved": clock()}
        assert ann.get("/api/next").json()["state"] == "ranking"
        assert ann.get("/api/consent").json()["at"] == clock()
        assert store.annotators.consented(accounts["ann"], kept) == clock()
    assert "<strong>" not in consent["html"]
