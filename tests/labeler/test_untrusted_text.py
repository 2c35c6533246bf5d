"""No text of a model, an annotator, an imported file or a study's owner runs or loads anything, wherever it is shown."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("playwright")

from fastapi.testclient import TestClient
from playwright.sync_api import Browser, expect

from labeler.care import hours_csv
from labeler.markup import render
from labeler.settings import Settings
from labeler.web import build_api
from preferences.exchange.exporting import FORMATS, export
from preferences.exchange.views import Source
from preferences.records import Comparison, Policy
from preferences.store import Store
from scripts import rounds_report
from tests.labeler.browser import Labeler
from tests.labeler.conftest import PASSWORD, add_account
from tests.labeler.hostile import (
    PLAN,
    SIZE,
    TEXTS,
    TURNS,
    VECTORS,
    chunks_of,
    comparison_of,
    fill,
    say_everything,
    some,
    train,
)
from tests.labeler.test_markup import check_safe
from tests.labeler.vectors import TECHNIQUES
from tests.labeler.watch import Watch
from trainer import ppo_html
from trainer.report_html import page as report_page


@pytest.mark.security
@pytest.mark.smoke
def test_the_corpus_is_large_and_of_every_technique() -> None:
    assert len(set(TEXTS)) >= 300
    for technique in TECHNIQUES:
        assert sum(vector.technique == technique for vector in VECTORS) >= 30, technique


@pytest.mark.security
@pytest.mark.smoke
def test_no_vector_becomes_more_than_text_and_safe_links() -> None:
    for text in [*TEXTS, *chunks_of(TEXTS)]:
        check_safe(render(text))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Labeler, list[Comparison]]]:
    """A labeler whose every text is an injection, and its comparisons."""
    made = Labeler(tmp_path_factory.mktemp("hostile"))
    comparisons = fill(made.store)
    made.start()
    yield made, comparisons
    made.stop()
    made.store.close()


def enter(browser: Browser, server: Labeler, name: str, role: str = "annotator") -> Watch:
    """Somebody new who is logged in."""
    account = add_account(server.store, name, role)
    server.store.annotators.change_settings(account, {"tour": True})
    watch = Watch(browser, server.url)
    watch.context.request.post(f"{server.url}/login", data={"name": name, "password": PASSWORD})
    return watch


def leave(watch: Watch) -> None:
    """Nothing may have been noted."""
    assert watch.found() == {}
    watch.context.close()


@pytest.mark.security
@pytest.mark.browser
def test_the_probes_see_what_runs_where_nothing_guards(
    browser: Browser, hostile: tuple[Labeler, list[Comparison]]
) -> None:
    """Else the other tests could not fail."""
    server, _ = hostile
    watch = Watch(browser, server.url)
    watch.page.goto(f"{server.url}/manifest.json")
    watch.page.evaluate(
        """texts => { for (const text of texts) {
            const box = document.createElement('div'); box.dataset.poke = ''; document.body.append(box); box.innerHTML = text;
        } }""",
        [text for text in TEXTS if "http-equiv" not in text],
    )
    watch.page.wait_for_timeout(2000)
    watch.look("bare")
    found = watch.found()
    assert len(found["hits"]) >= 150 and len(set(found["outside"])) >= 20 and len(found["odd"]) >= 200
    watch.context.close()


@pytest.mark.security
@pytest.mark.browser
def test_the_board_its_tools_and_its_dialogs(browser: Browser, hostile: tuple[Labeler, list[Comparison]]) -> None:
    server, comparisons = hostile
    watch = enter(browser, server, "<img src=x onerror=__hit(9001)>")
    page, large = watch.page, [one for one in comparisons if len(one.items) > 2]
    page.goto(f"{server.url}/app/annotate")
    for number in range(len(large)):
        page.wait_for_selector("dialog[open] li")  # the warnings
        watch.look("warning")
        page.click("dialog[open] .rb-button")
        assert page.locator(".rb-card").count() > 2 and page.locator(".rb-turn").count() > SIZE
        watch.look("board")
        page.click(".rb-prompt-raw")
        for raw in page.locator(".rb-raw").all():
            raw.click()
        page.click(".rb-tools > button:nth-of-type(2)")
        page.wait_for_selector(".rb-wide[open]")
        watch.look("compare")
        page.keyboard.press("Escape")
        if number == 0:
            page.keyboard.press("Alt+KeyF")  # the flags
            page.keyboard.press("Alt+KeyS")
            page.wait_for_selector("dialog[open]")
            watch.look("skip")
            page.keyboard.press("Escape")
        shown = page.inner_text(".rb-turns")
        page.locator(".rb-rank").first.focus()
        for rank in range(page.locator(".rb-card").count(), 0, -1):
            page.keyboard.press(f"Digit{rank}")
        page.keyboard.press("Enter")
        page.wait_for_function("shown => document.querySelector('.rb-turns')?.innerText !== shown", arg=shown)
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_guidelines_their_changes_and_consent(browser: Browser, hostile: tuple[Labeler, list[Comparison]]) -> None:
    server, _ = hostile
    store = server.store
    study = store.studies.get("main")
    watch = enter(browser, server, "reader")
    page = watch.page
    for text in chunks_of(TEXTS):
        store.studies.set_consent(study, text)
        store.studies.set_guideline(study, text)
        page.goto(f"{server.url}/app/annotate")
        page.wait_for_selector(".rb-consent")
        watch.look("consent")
        page.click(".rb-consent .rb-button")
        page.click("dialog[open] .rb-button")
        page.click(".rb-guide-open")
        page.wait_for_selector(".rb-guide-text .rb-text")
        page.fill(".rb-side input", "script")
        watch.look("guidelines")
    assert page.locator(".rb-changes li").count() > 100
    store.studies.set_consent(study, "")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_explanations_of_gold(browser: Browser, tmp_path: Path) -> None:
    server, chunks = Labeler(tmp_path), chunks_of(TEXTS)
    server.store.policies.add(Policy("p", "p", "imported"))
    study = server.store.studies.create("gold", 2, {**PLAN, "qualification": len(chunks), "gold_pass": 0.0})
    for number, text in enumerate(chunks):
        made = comparison_of(server.store, study, [f"Number {number}?", f"{number} A", f"{number} B"])
        server.store.golds.add(made, [[item] for item in made.items], text)
    server.start()
    watch = enter(browser, server, "newcomer")
    watch.page.goto(f"{server.url}/app/annotate")
    for _ in chunks:
        watch.page.wait_for_selector(".rb-card")
        for key in ("2", "1", "Enter"):
            watch.page.keyboard.press(key)
        watch.page.wait_for_selector("dialog[open] .rb-text")
        watch.look("gold")
        watch.page.click("dialog[open] .rb-button")
    leave(watch)
    server.stop()
    server.store.close()


@pytest.mark.security
@pytest.mark.browser
def test_history_and_dashboard(browser: Browser, hostile: tuple[Labeler, list[Comparison]]) -> None:
    server, comparisons = hostile
    watch = enter(browser, server, "<svg onload=__hit(9002)>")
    page = watch.page
    say_everything(server.store, server.store.annotators.get("<svg onload=__hit(9002)>"), comparisons)
    page.goto(f"{server.url}/app/history")
    page.wait_for_selector(".rb-answer")
    watch.look("history")
    for opener in page.locator(".rb-answer-head button").all():
        opener.click()
    expect(page.locator(".rb-answer-details:empty")).to_have_count(0)
    assert page.locator(".rb-answer").count() >= len(TEXTS) // (TURNS + SIZE)
    watch.look("answers")
    page.goto(f"{server.url}/app/")
    page.wait_for_selector(".rb-days", state="attached")
    watch.look("dashboard")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_the_pages_of_owners_and_admins(browser: Browser, hostile: tuple[Labeler, list[Comparison]]) -> None:
    server, _ = hostile
    watch = enter(browser, server, "<img src=x onerror=__hit(9003)>'\"`${__hit(9003)}", "admin")
    page = watch.page
    server.store.studies.set_guideline(server.store.studies.get("main"), chunks_of(TEXTS)[0])
    page.goto(f"{server.url}/study/")
    page.wait_for_selector("td", state="attached")
    watch.scroll()
    study = page.get_by_label("Study", exact=True)
    study.click()
    page.get_by_role("option", name="main", exact=True).click()
    expect(page.get_by_label("Guidelines (Markdown)")).not_to_have_value("")
    watch.look("study")
    for tab in ("People", "Rankings", "Quality", "Checks", "Blind evaluation", "Messages"):
        page.get_by_role("tab", name=tab).click()
        if tab == "Quality":
            page.get_by_role("button", name="Compute the statistics").click()
            page.get_by_text("Pairwise agreement", exact=True).first.wait_for()
        if tab == "Checks":
            page.get_by_role("button", name="Show the checks").click()
            expect(page.get_by_label("How fresh the training rankings are")).not_to_have_value("")
        if tab == "Blind evaluation":
            page.get_by_role("button", name="Compare the policies").click()
            expect(page.get_by_label("What people say")).not_to_have_value("")
        if tab == "Messages":
            page.get_by_role("gridcell", name="author").first.wait_for()
            page.get_by_label("Message", exact=True).click()
            page.get_by_role("option").nth(3).click()
            expect(page.get_by_label("The message, and the comparison")).not_to_have_value("")
        if tab == "People":
            page.get_by_label("Annotator", exact=True).click()
            watch.scroll()
        watch.scroll()
        watch.look(tab)
    page.goto(f"{server.url}/ops/")
    page.wait_for_selector("td", state="attached")
    for text in some(60):
        page.get_by_label("Account").fill(text)
        page.get_by_role("button", name="End the sessions").click()
        expect(page.get_by_label("What happened")).not_to_have_value("")
    watch.scroll()
    watch.look("administration")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_training_and_lineage(browser: Browser, hostile: tuple[Labeler, list[Comparison]], tmp_path: Path) -> None:
    server, _ = hostile
    train(server.store, tmp_path)
    watch = enter(browser, server, "<img src=x onerror=__hit(9005)>", "researcher")
    page = watch.page
    page.goto(f"{server.url}/study/training")
    page.get_by_text("More options").click()
    expect(page.get_by_role("region", name="All jobs").locator("tbody tr")).to_have_count(3)
    for link in page.get_by_role("region", name="All jobs").get_by_role("link").all():
        link.click()
        expect(page.locator(".tr-job h2")).to_contain_text(link.inner_text())
        for closed in page.locator(".tr-job details:not([open]) > summary").all():
            closed.click()
        assert page.locator(".tr-job").inner_text().count("__hit") > len(TEXTS) / 2
        watch.look("job")
    page.locator("#tr-study").select_option("main")
    expect(page.get_by_role("region", name="Who answered when").locator("tbody tr")).not_to_have_count(0)
    page.locator("#tr-policy").select_option(index=1)
    page.get_by_role("button", name="How it fares blind").click()
    expect(page.locator(".tr-evidence p")).to_contain_text("trained")
    watch.look("promotions")
    page.goto(f"{server.url}/study/lineage")
    nodes = page.locator(".li-node")
    nodes.first.wait_for()
    for node in nodes.all():
        node.click()
        page.locator(".li-detail h2").wait_for()
        for closed in page.locator(".li-detail details:not([open]) > summary").all():
            closed.click()
        watch.look("node")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_the_pages_of_guests(browser: Browser, store: Store) -> None:
    """Each vector as a name, and as the place where the login leads."""
    client = TestClient(build_api(store, Settings(tries_a_minute=10**6), {}))
    pages = [client.get(f"/login?next={quote(text)}&name={quote(text)}").text for text in some(2)]
    for text in TEXTS[:: len(TEXTS) // 60]:  # each costs a hash
        said = {"name": text.replace("\0", ""), "password": "wrong password", "next": text.replace("\0", "")}
        pages.append(client.post("/login", data=said).text)
    watch = Watch(browser)
    for page in pages:
        assert "<main>" in page
    watch.page.set_content("\n".join(pages))
    watch.look("login")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_exports_opened_as_html(browser: Browser, hostile: tuple[Labeler, list[Comparison]], tmp_path: Path) -> None:
    server, comparisons = hostile
    store = server.store
    study = store.studies.get("main")
    author = add_account(store, "<script>__hit(9004)</script>")
    say_everything(store, author, comparisons)
    files = {}
    for name in FORMATS:
        card = tmp_path / f"{name}.card.html"
        export(Source.of(store, study, None, names=True), name, tmp_path / f"{name}.jsonl", card_at=card)
        files[name], files[f"card of {name}"] = tmp_path / f"{name}.jsonl", card
    files["hours"] = tmp_path / "hours.csv"
    files["hours"].write_text(hours_csv(store, study), encoding="utf-8")
    watch = Watch(browser, tmp_path.as_uri())
    for name, path in files.items():
        page = path.with_suffix(".html")
        path.rename(page)
        watch.page.goto(page.as_uri())
        assert "__hit" in watch.page.inner_text("body") or name == "card of prompts"
        watch.look(name)
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_reports_of_ppo_runs(browser: Browser, tmp_path: Path) -> None:
    """Of one, and of several: every text of the document is a vector."""
    value = {"value": None, "undefined": TEXTS[3]}
    point = {
        "kl": value, "score": value, "difference": value, "matched": value, "length": value, "eos_rate": 1.0,
        "distinct": {"2": 1.0}, "entropy": 1.0, "frontier": True, "win_rate": value, "people": value,
    }  # fmt: skip
    change = {"change": 1.0, "score_before": 0.0, "score_after": 1.0}
    run = {
        "run": TEXTS[0], "recommended": {"name": TEXTS[0], "reason": TEXTS[1], "iteration": 1},
        "notes": TEXTS, "warnings": TEXTS,
        "points": [{**point, "name": text, "people_decide": text} for text in TEXTS],
        "changes": [{**change, "prompt": text, "before": text, "after": text} for text in TEXTS],
        "counts": dict.fromkeys(TEXTS, TEXTS[1]), "start": TEXTS[2], "base": TEXTS[3], "seed": TEXTS[4],
        "hashes": dict(zip(TEXTS, TEXTS, strict=True)), "options": dict(zip(TEXTS, TEXTS, strict=True)),
    }  # fmt: skip
    watch = Watch(browser, tmp_path.as_uri())
    path = tmp_path / "report.html"
    for page in (
        ppo_html.page(run, {}),
        ppo_html.comparison({"runs": {TEXTS[5]: run, TEXTS[6]: {**run, "options": {}}}}, {}),
    ):
        path.write_text(page, encoding="utf-8")
        watch.page.goto(path.as_uri())
        assert watch.page.locator("td").count() > 3 * len(TEXTS)
        watch.look("report")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_reports_of_rounds(browser: Browser, tmp_path: Path) -> None:
    """Every text of the document is a vector."""
    numbers = {"kl": 0.1, "rankings": 1}
    learned = {"accuracy": None, "low": None, "high": None, "longer_wins": 0.5, "shorter_wins": 0.5, "ceiling": 0.5}
    rounds = [
        {
            **numbers, "judge": {name: {"value": None, "undefined": text} for name in ("sft", "ppo", "difference")},
            "reward": learned, "win_rate": {"value": None, "undefined": text}, "seconds": {text: 1.0},
        }
        for text in TEXTS
    ]  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(rounds_report.page(rounds, "\n".join(TEXTS), {}), encoding="utf-8")
    watch = Watch(browser, tmp_path.as_uri())
    watch.page.goto(path.as_uri())
    assert watch.page.locator("td").count() > 3 * len(TEXTS)
    watch.look("report")
    leave(watch)


@pytest.mark.security
@pytest.mark.browser
def test_reports(browser: Browser, tmp_path: Path) -> None:
    """Of a reward run: every text of the document is a vector."""
    value = {"value": None, "undefined": TEXTS[3]}
    rows = [
        {
            "prompt": text,
            "preferred": text,
            "other": text,
            "preferred_score": 0.0,
            "other_score": 0.0,
            "share": 0.5,
            "comparison": text,
        }
        for text in TEXTS
    ]
    named = {text: {"accuracy": value, "better_by": value} for text in TEXTS}
    document = {
        "run": TEXTS[0], "counts": dict.fromkeys(TEXTS, TEXTS[1]), "base": TEXTS[1], "members": TEXTS[2], "notes": TEXTS,
        "warnings": TEXTS, "robustness": [{"name": t, "warning": t, "change": 0, "raised": 0, "flips": 0} for t in TEXTS],
        "accuracy": value, "baselines": named, "ceiling": value, "order": {"kendall_tau": value, "top_1": value},
        "groups": {text: {text: {"n": text, **value}} for text in TEXTS},
        "calibration": {"raw": {"ece": TEXTS[4], "brier": TEXTS[5]}, "tempered": {"ece": 0, "brier": 0}, "temperature": 1.0,
                        "fitted": TEXTS[6]},
        "curve": TEXTS, "worst": rows, "options": dict(zip(TEXTS, TEXTS, strict=True)),
    }  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(report_page(document, {}), encoding="utf-8")
    watch = Watch(browser, tmp_path.as_uri())
    watch.page.goto(path.as_uri())
    assert watch.page.locator("td").count() > 3 * len(TEXTS)
    watch.look("report")
    leave(watch)
