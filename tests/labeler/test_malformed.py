"""Whatever is sent, by whomever: a malformed request is refused in one sentence, and none makes the server fail."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from labeler.app import build_app
from labeler.care import plan_of, prompts_in
from labeler.pages import study as study_page
from labeler.security import RequestGuard
from preferences.errors import BadRecord
from preferences.plan import BadPlan, Plan
from preferences.store import Store
from tests.labeler.conftest import add_accounts, add_comparisons, add_study, log_in
from tests.labeler.test_connections import count
from tests.labeler.test_who_may import events

pytestmark = pytest.mark.security
HALF = "\\ud800"  # as JSON writes half a character
DEEP = 50_000


def is_refusal(answer: httpx.Response) -> bool:
    """One sentence of JSON, and no failure of the server."""
    found = answer.json()
    return 400 <= answer.status_code < 500 and {"error", "code"} == found.keys() and "\n" not in found["error"]


@pytest.mark.smoke
@pytest.mark.parametrize("charset", ["undefined", "idna", "punycode", "unicode_escape", "rot13", "\u00e9"])
def test_a_form_in_another_way_of_writing_is_no_form(client: TestClient, charset: str) -> None:
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\nann\\ud800\xff\r\n' % name.encode()
        for name in ("name", "password", "token", "again", "next", "_charset_")
    )
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}".encode("latin-1")}
    for path, status in (("/login", 422), ("/join", 410)):
        assert client.post(path, content=body + b"--x--\r\n", headers=headers).status_code == status  # type: ignore[arg-type]


@pytest.mark.smoke
@pytest.mark.parametrize(
    "body",
    [
        b"name=%ff%fe&password=%00",
        b"name=\xff\xfe&password=\xed\xa0\x80",
        b"&" * 50_000,
        b"=&=",
        b"name" * 50_000,
        b"%",
    ],
)
def test_a_form_with_whatever_in_it_is_a_wrong_one(client: TestClient, body: bytes) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=body, headers=form).status_code in (400, 401, 422)
    assert client.post("/join", content=body, headers=form).status_code in (400, 410)


def test_an_address_with_whatever_in_it_is_unknown(whole: TestClient) -> None:
    log_in(whole, "adam")
    queries = [
        b"next=%ed%a0%80",
        b"study=%00",
        b"study=%ff",
        b"offset=" + b"9" * 5_000,
        b"%",
        b"token=" + b"a" * 60_000,
    ]
    parts = [b"%00", b"%ff", b"%ed%a0%80", b"..%2f..%2f%00", b"a" * 5_000, b"%e2%80%ae", b"x%0ax", b"%25", b"C%3A%5C"]
    paths = [b"/app/static/", b"/app/assets/", b"/api/images/", b"/api/history/", b"/api/runs/", b"/api/studies/",
             b"/api/own_prompts/", b"/api/training/jobs/", b"/app/", b"/"]  # fmt: skip
    tails = [b"", b"/run.zip", b"/report", b"/hours.csv", b"/rankings.jsonl"]
    addresses = [path + part + tail for path in paths for part in parts for tail in tails]
    addresses += [
        path + b"?" + query
        for path in (b"/app/", b"/login", b"/join", b"/api/history", b"/api/study")
        for query in queries
    ]
    failed = {}
    for address in addresses:
        request = whole.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=address)
        status = whole.send(request).status_code
        if status >= 500:
            failed[address] = status
    assert not failed


@pytest.mark.smoke
def test_half_a_character_is_stored_nowhere(ann: TestClient, store: Store) -> None:
    lease = ann.get("/api/next").json()["task"]
    said = {"comparison": lease["comparison"], "lease": lease["lease"], "nonce": "nonce-0001"}
    for text in (f'"{HALF}"', f'"a{HALF}{HALF}"', '"\\udc00\\ud800"', '"\xed\xa0\x80"'):
        body = json.dumps({**said, "reason": "REASON"}).replace('"REASON"', text).encode("latin-1")
        for headers in ({"content-type": "application/json"}, {"content-type": "application/merge-patch+json"}):
            answer = ann.post("/api/skip", content=body, headers=headers)
            assert answer.status_code == 422 and is_refusal(answer), text
    assert not store.rankings.rows("SELECT 1 FROM rankings")
    typed = "what does \\ud800 mean, and \U0001f600?"  # a backslash that somebody typed is a character like any other
    for ascii_only in (True, False):
        body = json.dumps({"text": typed, "nonce": f"nonce-{ascii_only}"}, ensure_ascii=ascii_only)
        answer = ann.post("/api/remark", content=body.encode(), headers={"content-type": "application/json"})
        assert answer.status_code == 200, answer.text
    assert [remark.text for remark in store.remarks.all()] == [typed, typed]


@pytest.mark.smoke
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP, b'{"a":' * DEEP, b"9" * 10_000, b"NaN", b"\xff", b"\xff\xfe\x00\xd8", b"null", b"[]", b'"x"',
        b'{"tiers": ' + b"[" * 900 + b"]" * 900 + b"}", b'{"nonce": ' + b"9" * 5_000 + b"}", b"{" + b'"a":1,' * 20_000 + b"}",
    ],
)  # fmt: skip
def test_json_of_whatever_form_is_refused_in_one_sentence(
    client: TestClient, as_account: Callable[[str], TestClient], body: bytes
) -> None:
    ann = as_account("ann")
    for path in ("/api/submit", "/api/draft", "/api/settings", "/api/remark", "/api/consent"):
        assert is_refusal(ann.post(path, content=body, headers={"content-type": "application/json"})), path
    assert is_refusal(client.post("/login", content=body, headers={"content-type": "application/json"}))


@pytest.mark.smoke
def test_settings_and_prompts_of_a_paste_are_refused_in_one_sentence() -> None:
    for setting in (
        "labels_train=" + "[" * DEEP, "labels_train=" + "[" * 900 + "]" * 900, "seed=" + "9" * 5_000, "shared=NaN",
        f'flags=["{HALF}"]', f'content_warnings={{"a": "{HALF}"}}', "quota=1e999", "nothing", "=",
    ):  # fmt: skip
        with pytest.raises(BadPlan) as caught:
            Plan.of(plan_of([setting]))
        assert "\n" not in str(caught.value)
    for line in (
        f'{{"prompt": "{HALF}"}}',
        '{"prompt":' * DEEP,
        '{"prompt": ' + "9" * 5_000 + "}",
        '{"prompt": {}}',
        "{",
    ):
        with pytest.raises(BadRecord, match=r"^Line 2 of the prompts: .*; correct it\.$"):
            prompts_in(f"a good one\n{line}")


@pytest.mark.smoke
def test_no_route_sees_half_a_character() -> None:
    """Also where a body may hold whatever there is."""
    client = TestClient(RequestGuard(count, limit=1000))
    for text, status in (
        (HALF, 422), ("\\udc00\\ud83d", 422), ("\\ud83d\\ude00", 200), ("\\" + HALF, 200), ("\u00e9\U0001f600", 200),
    ):  # fmt: skip
        answer = client.post(
            "/", content=f'{{"any": ["{text}"]}}'.encode(), headers={"content-type": "application/json"}
        )
        assert answer.status_code == status, text


def predict(client: TestClient, mount: str, body: Any) -> httpx.Response:
    return client.post(f"{mount}/gradio_api/run/predict", json=body)


@pytest.mark.smoke
def test_an_event_that_a_page_has_not_is_refused(whole: TestClient) -> None:
    log_in(whole, "adam")
    good = {"fn_index": 0, "data": [], "session_hash": "x"}
    assert predict(whole, "/study", good).status_code == 200
    for changed in (
        {"fn_index": 99_999}, {"fn_index": -1}, {"fn_index": None}, {"fn_index": "0"}, {"fn_index": True}, {"fn_index": 0.5},
        {"data": {}}, {"data": None}, {"data": [1]}, {"session_hash": "x" * 65}, {"session_hash": []}, {"batched": True},
        {"simple_format": True}, {"event_id": "x"}, {"request": {}}, {"trigger_id": "x"}, {"api_name": "look"},
    ):  # fmt: skip
        answer = predict(whole, "/study", {**good, **changed})
        assert answer.status_code == 422 and is_refusal(answer), changed
    for content in (b"", b"[]", b"{", b"[" * DEEP, b'{"fn_index": 0, "data": ["\xff"]}'):
        answer = whole.post("/study/gradio_api/run/predict", content=content)
        assert answer.status_code == 422 and is_refusal(answer), content[:9]


def test_what_an_input_cannot_have_is_refused(whole: TestClient) -> None:
    """Of every event, one input at a time: no list where a name is wanted, no number out of its bounds."""
    log_in(whole, "adam")
    tried = set()
    for mount, index, event in events(whole):
        for place, block in enumerate(event.inputs):
            for value in odd_values(block):
                data = [None] * len(event.inputs)
                data[place] = value
                answer = predict(whole, mount, {"fn_index": index, "data": data, "session_hash": "x"})
                assert answer.status_code == 422 and is_refusal(answer), (mount, event.fn.__name__, place, value)
                tried.add((event.fn.__name__, place))
    assert len(tried) > 40


def odd_values(block: Any) -> list[Any]:
    """What no page sends of the component."""
    kind, odd = block.get_block_name(), [{"a": 1}, [["x"]], [None], {"__type__": "update"}]
    if kind == "number":
        return [*odd, "4", True, 1e308, -1, 10**400]
    if kind == "checkbox":
        return [*odd, "yes", 1]
    if kind == "dropdown":
        odd += ["x"] if block.multiselect or not block.allow_custom_value else [["x"]]
    if getattr(block, "max_length", None):
        odd.append("x" * (block.max_length + 1))
    return [*odd, 1, True]


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[TestClient]:
    """A whole labeler of this test's own, as an admin sees it."""
    store = Store(tmp_path / "labels.db")
    add_accounts(store)
    add_comparisons(store, add_study(store))
    with TestClient(build_app(store), raise_server_exceptions=False) as client:
        yield log_in(client, "adam")
    store.close()


TEXTS = [
    "", " ", "\x00", "\x00\x1b[31m\r\n", "a\u202eb", "\U0001f600" * 50, "x" * 20_000, "[" * DEEP, "a=" + "[" * DEEP,
    "seed=" + "9" * 5_000, "flags=[1]", "shared=NaN", f'flags=["{HALF}"]', '{"prompt": {}}', f'{{"prompt": "{HALF}"}}',
    '{"messages": [null]}', "main", "ann", "Ann\nann; bea", "policy-secret-sft", "%s {} {0} {x!r}", "${1}", study_page.NEW,
    "'; DROP TABLE studies; --", "9" * 400, "-1", "1e999", "../../etc/passwd", "=1+1",
]  # fmt: skip


@pytest.mark.timeout(300)
def test_no_text_in_a_box_makes_a_page_fail(pages: TestClient) -> None:
    """Every event, with each of these texts in all its boxes, and with a study and a person that there are beside it."""
    failed = {}
    for mount, index, event in events(pages):
        for text in TEXTS if event.inputs else TEXTS[:1]:
            for known in (False, True):
                data = [value_of(block, text, known) for block in event.inputs]
                answer = predict(pages, mount, {"fn_index": index, "data": data, "session_hash": "x"})
                if answer.status_code != 200 and not is_refusal(answer):
                    failed[mount, event.fn.__name__, text[:20]] = answer.text
    assert not failed
    assert pages.get("/study/").status_code == pages.get("/api/studies").status_code == 200


def value_of(block: Any, text: str, known: bool) -> Any:
    """That text, as the component sends it; `known`: "main" and "ann" in the boxes for names."""
    kind = block.get_block_name()
    if kind == "number":
        return block.value
    if kind == "checkbox":
        return True
    if kind == "dropdown" and not block.allow_custom_value:
        return block.choices[0][1]
    if kind == "dropdown" and known:
        text = {"Study": "main", "Annotator": "ann"}.get(block.label, text)
    if kind == "dropdown" and block.multiselect:
        return [text]
    limit = getattr(block, "max_length", None)
    return text[:limit] if limit else text
