"""What stands beside the ranking, in a real browser: reading aids, guidelines, settings, messages, own prompts, tour."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Route, expect

from labeler.assignment import SPARE
from labeler.languages import strings
from preferences.images import image_of
from preferences.records import Policy, Response
from preferences.tables.jobs import OWN_PROMPT
from tests.conftest import PLAIN
from tests.labeler.browser import Labeler, Seat, labeler
from tests.labeler.conftest import add_comparison, add_urgent
from tests.preferences.test_images import file_of

pytestmark = [pytest.mark.browser]
CODE = "Use this:\n\n```python\nprint('hi')\n```\n\nand **no** other."


@pytest.fixture(scope="module")
def server(server: Labeler) -> Labeler:
    """What everybody ranks first: a picture, a system prompt, several turns, code, two texts that differ by a word."""
    image = image_of(file_of((60, 40)))
    server.store.images.add([image])
    messages = [
        {"role": "system", "content": "Answer **briefly**."},
        {"role": "user", "content": f"What is this?\n\n![A red box](image:{image.id})"},
        {"role": "assistant", "content": "A box."},
        {"role": "user", "content": "ومن أي لون؟"},
    ]
    (prompt,) = server.store.prompts.add([{"messages": messages}], heldout=0.0)
    texts = [CODE, CODE.replace("no", "any"), "Red. " * 300]
    responses = [Response.make(prompt.id, "pid-secret-sft", text, 1, i) for i, text in enumerate(texts)]
    server.store.responses.add(responses)
    server.store.comparisons.add(server.store.studies.default(), prompt.id, responses, priority=9.0)
    return server


def card_of(seat: Seat, words: str) -> Any:
    return seat.page.locator(".rb-card", has_text=words)


def test_conversation_with_system_prompt_picture_and_direction(sit: Callable[..., Seat]) -> None:
    page = sit().page
    system = page.locator(".rb-turn[data-role=system]")
    expect(system.locator("strong")).to_be_visible()
    system.locator("summary").click()
    expect(system.locator("strong")).to_be_hidden()
    picture = page.locator(".rb-turn img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.rb-turn img').naturalWidth === 60")
    assert picture.get_attribute("alt") == "A red box"
    directions = "nodes => nodes.map(node => getComputedStyle(node).direction)"
    assert page.locator(".rb-turn .rb-text").evaluate_all(directions) == ["ltr", "ltr", "ltr", "rtl"]
    assert "sticky" in page.evaluate("getComputedStyle(document.querySelector('.rb-prompt')).position")
    page.click(".rb-prompt-raw")
    expect(page.locator(".rb-turn .rb-plain").nth(1)).to_contain_text("![A red box](image:")
    page.click(".rb-prompt-head [aria-expanded]")
    expect(page.locator(".rb-turns")).to_be_hidden()


def test_code_is_copied_as_it_is(sit: Callable[..., Seat]) -> None:
    seat = sit(permissions=["clipboard-read", "clipboard-write"])
    button = card_of(seat, "no other").locator(".rb-copy")
    button.click()
    expect(button).to_have_text("Copied")
    assert seat.page.evaluate("navigator.clipboard.readText()") == "print('hi')\n"
    seat.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as over plain http
    other = card_of(seat, "any other").locator(".rb-copy")
    other.click()
    expect(other).to_have_text("Copied")


def test_two_responses_are_compared_word_by_word(sit: Callable[..., Seat]) -> None:
    seat = sit()
    page = seat.page
    seat.press("Alt+KeyC")
    letters = {words: card_of(seat, words).get_attribute("data-letter") for words in ("no other", "any other")}
    selects = page.locator(".rb-wide select")
    for index, words in enumerate(letters):
        selects.nth(index).select_option(label=f"Response {letters[words]}")
    panes = page.locator(".rb-pane")
    expect(panes.nth(0).locator("del")).to_have_text("no")
    expect(panes.nth(1).locator("ins")).to_have_text("any")
    assert panes.locator("script, img, code").count() == 0
    expect(page.locator(".rb-wide .rb-note")).to_have_text(
        f"Crossed out: only in {letters['no other']}. Underlined: only in {letters['any other']}."
    )
    selects.nth(1).select_option(label=f"Response {letters['no other']}")
    expect(page.locator(".rb-wide .rb-note")).to_have_text("The two texts are the same.")
    seat.press("Escape")
    assert seat.focus()


def test_same_height_and_expand_all(sit: Callable[..., Seat]) -> None:
    seat = sit()
    text = card_of(seat, "Red. Red.").locator(".rb-text")
    full = text.evaluate("node => node.clientHeight")
    seat.page.click(".rb-height")
    assert text.evaluate("node => node.clientHeight") < full
    assert text.evaluate("node => [node.scrollHeight > node.clientHeight, node.tabIndex]") == [True, 0]
    seat.open()  # the choice is kept
    expect(seat.page.locator(".rb-height")).to_have_text("Expand all")
    seat.press("Alt+KeyX")
    assert text.evaluate("node => [node.clientHeight, node.tabIndex]") == [full, -1]


def test_guidelines_are_read_searched_and_known_to_be_new(sit: Callable[..., Seat], server: Labeler) -> None:
    study = server.store.studies.default()
    server.store.studies.set_guideline(
        study, "# Rank\n\nBe fair. <img src=x onerror=window.__xss=1>\n\nFairness first."
    )
    seat = sit()
    page = seat.page
    expect(page.locator(".rb-guide-open")).to_have_class("rb-quiet rb-guide-open rb-new")
    seat.press("Alt+KeyG")
    expect(page.locator(".rb-guide-text h1")).to_have_text("Rank")
    page.fill(".rb-side input", "FAIR")
    expect(page.locator(".rb-side mark")).to_have_count(2)
    expect(page.locator(".rb-side [role=status]")).to_have_text("2 found")
    expect(page.locator(".rb-side mark.here")).to_have_text("fair")
    seat.press("Enter")
    expect(page.locator(".rb-side mark.here")).to_have_text("Fair")
    seat.press("Escape")
    expect(page.locator(".rb-side")).to_be_hidden()
    seat.open()
    expect(page.locator(".rb-guide-open")).to_have_class("rb-quiet rb-guide-open")
    server.store.studies.set_guideline(study, "# Rank\n\nBe kind.\n\nFairness first.")
    seat.open()
    expect(page.locator(".rb-guide-open")).to_have_text("Guidelines: changed")
    page.click(".rb-guide-open")
    expect(page.locator(".rb-changes ins")).to_have_text("Be kind.")
    expect(page.locator(".rb-changes del")).to_contain_text("Be fair.")
    page.click(".rb-card .rb-rank")  # one can rank beside it
    assert seat.text(".rb-card .rb-number") == "1"
    assert page.evaluate("window.__xss") is None


def test_guidelines_and_consent_are_those_of_the_study_that_is_worked_in(
    sit: Callable[..., Seat], server: Labeler
) -> None:
    store, main = server.store, server.store.studies.default()
    other = store.studies.create("other", plan={"labels_train": 1000, "repeats": 0.0})
    add_comparison(store, other, "Of the other study?", ["one", "two"])
    store.studies.set_guideline(main, "Rules of the first.")
    store.studies.set_guideline(other, "Rules of the other.")
    store.studies.set_consent(other, "The other keeps **all**.")
    seat = sit()
    panel = seat.page.locator(".rb-guide-text")
    try:
        seat.press("Alt+KeyG")
        expect(panel).to_contain_text("Rules of the first.")
        store.studies.set_status(main, "paused")
        seat.page.locator(".rb-card .rb-rank").first.focus()
        seat.press("2", "1", *(str(rank) for rank in range(3, seat.count + 1)), "Control+Enter")
        expect(seat.page.locator(".rb-consent strong")).to_have_text("all")
        expect(panel).to_contain_text("Rules of the other.")
        seat.page.click(".rb-consent .rb-button")
        expect(seat.page.locator(".rb-turns")).to_contain_text("Of the other study?")
        assert store.annotators.consented(seat.account, store.studies.consent(other))  # type: ignore[arg-type]
        seen = store.annotators.get(seat.account.name).settings["guidelines_seen"]
        assert seen == {main.id: store.studies.guideline(main).version, other.id: 1}  # type: ignore[union-attr]
    finally:
        store.studies.set_status(main, "active")
        store.studies.set_status(other, "closed")


def test_a_message_to_the_owner(sit: Callable[..., Seat], server: Labeler) -> None:
    seat = sit()
    page = seat.page
    page.click(".rb-menu > button")
    page.get_by_role("button", name="Message to the study owner").click()
    page.fill("dialog[open] textarea", "The picture is too small.\n1 2 3")
    page.click("dialog[open] button[type=submit]")
    expect(page.locator(".rb-toast")).to_have_text("Message sent")
    remark = server.store.remarks.all()[0]
    assert remark.text == "The picture is too small.\n1 2 3" and remark.annotator == seat.account.id
    held = server.store.queue.held(seat.account)
    assert held and remark.comparison == held.comparison
    assert seat.text(".rb-echo") == "Nothing ranked yet"  # digits in a text field rank nothing


def test_the_language_is_chosen_in_the_settings(sit: Callable[..., Seat], server: Labeler) -> None:
    seat = sit(locale="es")
    page = seat.page
    expect(page.locator(".rb-top h1")).to_have_text(strings("es")["board.title"])
    page.click(".rb-menu > button")
    page.get_by_role("button", name=strings("es")["settings.open"]).click()
    page.select_option("dialog[open] select", "de")
    page.click("dialog[open] button[type=submit]")
    expect(page.locator(".rb-top h1")).to_have_text(strings("de")["board.title"])
    assert page.evaluate("document.documentElement.lang") == "de"
    page.click(f".rh-pages >> text={strings('de')['nav.dashboard']}")
    expect(page.locator(".rb h1")).to_have_text(strings("de")["work.title"])
    assert server.store.annotators.get(seat.account.id).settings["language"] == "de"


def test_question_mark_shows_the_keys_unless_single_keys_are_off(sit: Callable[..., Seat]) -> None:
    seat = sit()
    seat.press("?")
    expect(seat.page.locator(".rb-dialog[open]")).to_contain_text("this list")
    seat.press("Escape", "Alt+KeyK", "?")
    expect(seat.page.locator(".rb-dialog[open]")).to_have_count(0)


def test_the_tour_is_shown_once(sit: Callable[..., Seat]) -> None:
    seat = sit(settings={"tour": False})
    page = seat.page
    with page.expect_response("**/api/settings"):  # what is on its way when the page is left may not arrive
        for step in (1, 2, 3):
            expect(page.locator("dialog[open]")).to_contain_text(f"{step} of 3")
            seat.press("1")  # ranks nothing meanwhile
            seat.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert seat.text(".rb-echo") == "Nothing ranked yet"
    seat.open()
    page.wait_for_function("document.querySelector('.rb-tools') !== null")
    page.wait_for_timeout(300)
    expect(page.locator("dialog[open]")).to_have_count(0)
    page.click(".rb-menu > button")
    page.get_by_role("button", name="Show the tour").click()
    expect(page.locator("dialog[open]")).to_contain_text("1 of 3")


def test_consent_first_then_a_warning_before_what_may_hurt(browser: Browser, tmp_path: Path) -> None:
    with labeler(tmp_path) as made:
        study = made.store.studies.default()
        text = made.store.studies.set_consent(study, "We keep **what** you rank.")
        made.store.studies.edit(study, plan={"content_warnings": {"violence": "Violence in words"}})
        add_urgent(made.store)
        seat = Seat(browser, made, "carla", wait=".rb-consent")
        page = seat.page
        assert page.locator(".rb-card").count() == 0
        expect(page.locator(".rb-consent strong")).to_have_text("what")
        assert made.store.annotators.consented(seat.account, text) is None
        page.click(".rb-consent .rb-button")
        expect(page.locator("dialog[open] li")).to_have_text("Violence in words")
        assert made.store.annotators.consented(seat.account, text)
        expect(page.locator(".rb-card").first).not_to_be_visible()
        seat.press("Escape", "1")
        expect(page.locator("dialog[open]")).to_have_count(1)
        page.get_by_role("button", name="Topics I do not want").click()
        page.click("dialog[open] .rb-check")
        page.click("dialog[open] button[type=submit]")
        expect(page.locator(".rb-card").first).to_be_visible()
        assert "battle" not in seat.prompt
        assert made.store.annotators.get("carla").settings["avoid"] == ["violence"]
        bold = Seat(browser, made, "bold", wait=".rb-consent")
        bold.page.click(".rb-consent .rb-button")
        bold.page.get_by_role("button", name="Show it").click()
        expect(bold.page.locator(".rb-card").first).to_be_visible()
        assert "battle" in bold.prompt and bold.focus() == "A"
        assert (seat.errors, bold.errors) == ([], [])
        seat.context.close()
        bold.context.close()


def test_an_own_prompt_with_honest_progress(browser: Browser, tmp_path: Path) -> None:
    with labeler(tmp_path) as made:
        store = made.store
        store.studies.edit(store.studies.default(), plan={"own_prompts": True})
        seat = Seat(browser, made, "owen")
        page = seat.page
        page.click(".rb-menu > button")
        page.get_by_role("button", name="Your own prompt").click()
        page.fill("dialog[open] textarea", "Why do cats purr?")
        page.click("dialog[open] button[type=submit]")
        state = page.locator("dialog[open] [role=status]")
        expect(state).to_contain_text("Waiting for a worker")
        job = store.jobs.claim("w", 60)
        assert job and job.kind == OWN_PROMPT
        store.jobs.beat(job, {"answers": 1, "of": 2})
        expect(state).to_have_text("1 of 2 answers are done")
        prompt = job.spec["prompt"]
        responses = [Response.make(prompt, "pid-secret-sft", text, 1, i) for i, text in enumerate(("Joy.", "Food."))]
        store.responses.add(responses)
        comparison = store.comparisons.add(store.studies.default(), prompt, responses, asked_by=seat.account.id)
        assert comparison
        page.get_by_role("button", name="Go on ranking").click()  # when it is done the page says so by itself
        store.jobs.beat(job, {"answers": 2, "of": 2, "comparison": comparison.id})
        store.jobs.finish(job)
        expect(state).to_have_text("The answers are ready")
        page.get_by_role("button", name="Rank them now").click()
        expect(page.locator(".rb-turns")).to_contain_text("Why do cats purr?")
        seat.press("Digit1", "Digit2", "Enter")
        seat.wait_state("^Saved")
        assert made.rankings(seat.account)[0].comparison == comparison.id
        seat.context.close()


def test_the_texts_of_traps_are_harmless(sit: Callable[..., Seat], server: Labeler) -> None:
    traps = [">" * 10_000 + " deep", "user\u202etxt.exe \x1b[31m \x07", "x" * 200_000, "${a} {{b}} `c` \\frac"]
    made = add_comparison(server.store, server.store.studies.default(), f"Traps {traps[1]}", traps, priority=99)
    seat = sit()
    assert "[U+202E]" in seat.prompt
    assert sum(len(text) for text in seat.page.locator(".rb-card .rb-text").all_inner_texts()) > 210_000
    seat.press("1", "2", "3", "4", "Alt+KeyC")
    expect(seat.page.locator(".rb-wide[open]")).to_be_visible()
    seat.press("Escape")
    seat.wait_draft()
    with server.store.write() as db:
        db.execute("UPDATE comparisons SET priority = -99 WHERE id = ?", [made.id])


COMPARE_SECONDS = 3.0  # with the layout of both texts; a machine with little else to do takes 0.6


def test_two_long_responses_are_compared_and_the_page_goes_on(sit: Callable[..., Seat], server: Labeler) -> None:
    words = [f"word{number * 7919 % 5003}" for number in range(22_000)]
    changed = [f"new{number}" if number % 31 == 7 else word for number, word in enumerate(words)]
    texts = [" ".join(words), " ".join(changed)]
    assert min(map(len, texts)) > 190_000
    made = add_comparison(server.store, server.store.studies.default(), "Two long ones?", texts, priority=99)
    seat = sit()
    seat.page.evaluate(
        """() => document.addEventListener("keydown", ({ timeStamp }) => requestAnimationFrame(() =>
        requestAnimationFrame(() => (window.took = (performance.now() - timeStamp) / 1000))), true)"""
    )
    seat.press("Alt+KeyC")
    expect(seat.page.locator(".rb-wide[open]")).to_be_visible(timeout=60_000)
    seat.page.wait_for_function("window.took")
    assert seat.page.evaluate("window.took") < COMPARE_SECONDS
    expect(seat.page.locator(".rb-pane ins")).to_have_count(710)
    expect(seat.page.locator(".rb-pane del")).to_have_count(710)
    seat.press("Escape", "1")
    expect(seat.page.locator(".rb-echo")).to_have_text("A")
    seat.wait_draft()
    with server.store.write() as db:
        db.execute("UPDATE comparisons SET priority = -99 WHERE id = ?", [made.id])


def test_with_what_comes_from_the_next_study_come_its_guidelines(browser: Browser, tmp_path: Path) -> None:
    """Shown before the server has answered: the reply to the answer is held back."""
    made = Labeler(tmp_path)
    for name, count in (("first", 1), ("second", SPARE + 1)):
        study = made.store.studies.create(name, 2, PLAIN)
        made.store.studies.set_guideline(study, f"# Of the {name}")
        for policy in ("sft", "ppo"):
            made.store.policies.add(Policy(f"pid-secret-{policy}", f"policy-secret-{policy}", policy))  # type: ignore[arg-type]
        for number in range(count):
            add_comparison(made.store, study, f"Question {number * 7919} of {name}?", ["one", "two"])
    made.start()
    seat = Seat(browser, made, "ann")
    held: list[Route] = []
    seat.page.route("**/api/submit", lambda route: held.append(route))  # noqa: PLW0108
    assert "of first" in seat.prompt
    seat.page.wait_for_function(
        "() => performance.getEntriesByName(location.origin + '/api/ahead').some(e => e.responseEnd)"
    )
    seat.press("Digit2", "Digit1", "Control+Enter")
    expect(seat.page.locator(".rb-turns")).to_contain_text("of second")
    seat.press("Alt+KeyG")
    expect(seat.page.locator(".rb-guide-text h1")).to_have_text("Of the second")
    (route,) = held
    route.continue_()
    seat.wait_state("^Saved")
    expect(seat.page.locator(".rb-turns")).to_contain_text("of second")
    assert len(made.rankings(seat.account)) == 1 and seat.errors == []
    seat.context.close()
    made.stop()
    made.store.close()
