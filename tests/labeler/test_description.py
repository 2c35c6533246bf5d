"""The API against its OpenAPI description: whatever is sent, well-formed or not, by whomever, the server does not fail, and
answers what the description says.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from labeler.accounts import COOKIE, token_hash
from labeler.settings import Settings
from labeler.web import build_api
from labeler.worker_tokens import PATH, new_token
from preferences.records import ROLES
from preferences.store import Store
from preferences.tables.jobs import OWN_PROMPT
from tests.labeler.conftest import Clock, add_account, add_comparison, add_study
from tests.preferences.truth import Truth

pytestmark = pytest.mark.security
WHO = ("nobody", "worker", *ROLES)  # what a worker says of itself the others read
OPEN = ("/healthz", "/readyz")
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
ENDLESS = Settings(requests_a_minute=10**9, requests_a_minute_here=10**9)
# What some of the requests must get beyond its checks, or they would not reach much.
ANSWERED = {
    "account": {"/api/next", "/api/submit", "/api/own_prompts/{job}", "/api/remark"},
    "worker": {"/api/worker/seen", "/api/worker/claim"},
}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Labeler:
    """In this process. `headers`: with which each of WHO comes; `known`: what there is for them, by the field's name."""

    store: Store
    app: FastAPI
    headers: dict[str, dict[str, str]]
    known: dict[str, dict[str, list[Any]]]


@pytest.fixture(scope="module")
def labeler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labeler]:
    """With three comparisons, one of them ranked and another in everybody's hands, and a job of each kind."""
    folder = tmp_path_factory.mktemp("described")
    store = Store(folder / "labels.db", Clock())
    study = store.studies.edit(add_study(store), plan={"labels_train": 100, "own_prompts": True})
    comparisons = [add_comparison(store, study, f"Question {n} {n * 7919}?", ["a", "b"]) for n in range(3)]
    headers: dict[str, dict[str, str]] = {"nobody": {}}
    known: dict[str, dict[str, list[Any]]] = {"nobody": {}, "worker": {}}
    order, plain = (
        comparisons[0].items,
        {"flags": [{}], "ratings": [{}], "strengths": [[]], "mode": [None], "rewrite": [""]},
    )
    for role in ROLES:
        account = add_account(store, role, role)
        store.annotators.open_session(account, token_hash(role), 1e9)
        headers[role] = {"cookie": f"{COOKIE}={role}"}
        lease = store.queue.lease(comparisons[0].id, account, order, 1e6)
        store.rankings.add_imported(account, comparisons[1], [[item] for item in comparisons[1].items])
        own = {"prompt": comparisons[0].prompt, "study": study.id, "annotator": account.id, "nonce": "own-nonce"}
        known[role] = {
            **plain, "comparison": [lease.comparison], "lease": [lease.id], "tiers": [[[item] for item in order], [order]],
            "rewrite_of": [""], "ranking": [store.rankings.history(account)[0].id],
            "job": [store.jobs.add(OWN_PROMPT, own).id],
        }  # fmt: skip
    headers["worker"] = {"authorization": f"Bearer {new_token(store, 'host')}", "x-rankloop-worker": "one"}
    store.studies.set_guideline(study, "Be fair.")
    run = folder / "runs" / "sft-1"
    (run / "report").mkdir(parents=True)
    (run / "report" / "report.html").write_text("<p>A report.</p>")
    store.runs.note(str(run), {"stage": "sft", "study": study.id}, study.id)
    everybodys = {
        "study": [study.id], "version": [1], "run": [one.id for one in store.runs.all()], "path": ["/etc/passwd", str(run)],
        "policy": [policy.id for policy in store.policies.all()], "job": [job.id for job in store.jobs.all()],
    }  # fmt: skip
    known = {who: {**everybodys, **theirs} for who, theirs in known.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labeler.worker_tokens.WRONG_A_MINUTE", 10**9)  # all come from one address
        app = build_api(store, ENDLESS, {})
        with TestClient(app):
            yield Labeler(store, app, headers, known)
    store.close()


def aim(case: Case, known: dict[str, list[Any]], data: st.DataObject) -> None:
    """Mostly put what there is into the fields that could name it: made-up ids alone would find nothing."""
    if not data.draw(st.integers(0, 3)):
        return
    for fields in (case.path_parameters, case.query, case.body):
        for name in list(fields) if isinstance(fields, dict) else ():
            if name in known:
                fields[name] = data.draw(st.sampled_from(known[name]))


def send(labeler: Labeler, who: str, mode: GenerationMode, examples: int) -> Counter[tuple[str, int]]:
    """So many requests to each route; how many got which status."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", labeler.app, headers=labeler.headers["admin"])
    seen: Counter[tuple[str, int]] = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()
        inputs = (operation.path_parameters, operation.query, operation.headers, operation.cookies, operation.body)
        if mode is GenerationMode.NEGATIVE and not any(map(len, inputs)):
            continue  # nothing about the request can be wrong

        @settings(
            max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def asked(case: Case, data: st.DataObject) -> None:
            aim(case, labeler.known[who], data)
            reply = case.call_and_validate(headers=labeler.headers[who], checks=CHECKS)
            seen[case.path, reply.status_code] += 1

        asked()
    return seen


@pytest.mark.parametrize(
    ("who", "mode", "examples"),
    [
        pytest.param("annotator", GenerationMode.POSITIVE, 1, marks=pytest.mark.smoke),
        *((who, mode, 10) for who in WHO for mode in GenerationMode),
    ],
)
def test_no_request_makes_the_server_fail(labeler: Labeler, who: str, mode: GenerationMode, examples: int) -> None:
    if who in ROLES:  # the last one may have been answered
        account, store = labeler.store.annotators.get(who), labeler.store
        comparison = store.comparisons.get(labeler.known[who]["comparison"][0])
        labeler.known[who]["lease"] = [store.queue.lease(comparison.id, account, comparison.items, 1e6).id]
    seen = send(labeler, who, mode, examples)
    for path, status in seen:
        mine = path in OPEN or (path.startswith(PATH) == (who == "worker") and who != "nobody")
        assert mine or status in {401, 413}, (path, status)  # too much is not even looked at
    if mode is GenerationMode.POSITIVE and who != "nobody" and examples > 1:
        answered = {path for path, status in seen if status == 200}
        assert ANSWERED["worker" if who == "worker" else "account"] <= answered
    Truth(labeler.store, labeler.store.studies.default()).check_counts()
