"""The board as an annotator meets it: the real labeler in a process of its own, a real browser, the real database."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect

from labeler.board import STATIC
from tests.labeler.browser import Seat, labeler

pytestmark = [pytest.mark.browser]
COLUMNS = {2: 2, 3: 3, 4: 2, 5: 3, 6: 3, 7: 3, 8: 3, 9: 3}


def columns(page: Page) -> int:
    """Cards in the first row; all have one width."""
    boxes = [card.bounding_box() for card in page.locator(".rb-card").all()]
    assert max(box["width"] for box in boxes) - min(box["width"] for box in boxes) <= 1  # type: ignore[index]
    return sum(box["y"] == boxes[0]["y"] for box in boxes)  # type: ignore[index]


def backwards(count: int) -> list[str]:
    """The keys that rank so many responses from the last shown to the first."""
    return [f"Digit{rank}" for rank in range(count, 0, -1)]


def rank_all(seat: Seat) -> None:
    """The last one shown is the best, the first the worst; then Enter; wait for what comes next."""
    prompt = seat.prompt
    seat.press(*backwards(seat.count), "Enter")
    seat.wait_change(prompt)


def find(seat: Seat, count: int) -> None:
    """Rank on until a comparison of that many responses is shown."""
    while seat.count != count:
        rank_all(seat)


def test_every_size_is_ranked_by_keyboard_alone_and_stored(sit: Callable[..., Seat]) -> None:
    seat = sit()
    for done in range(9):
        assert seat.text(".rb-submit") == f"0 of {seat.count} ranked"
        assert seat.focus() == "A"
        assert [seat.text(f".rb-card:nth-child({i + 1}) .rb-number") for i in range(seat.count)] == ["–"] * seat.count
        assert columns(seat.page) == COLUMNS[seat.count]
        rank_all(seat)
        assert re.fullmatch(r"Saved \d\d:\d\d:\d\d", seat.wait_state("^Saved"))
        assert seat.text(".rb-progress b") == str(done + 1)
    assert "You have ranked all that is there for you" in seat.text(".rb-rest")
    stored = seat.server.rankings(seat.account)
    assert sorted(len(ranking.order) for ranking in stored) == [2, 3, 4, 5, 6, 7, 7, 8, 9]
    assert all(ranking.tiers == [[item] for item in ranking.order[::-1]] for ranking in stored)
    assert all(0 < ranking.active_ms < 60_000 for ranking in stored)


def test_tie_clear_gap_and_echo(sit: Callable[..., Seat]) -> None:
    seat = sit()
    find(seat, 4)
    seat.press("Numpad2", "1")
    assert seat.focus() == "C"
    assert seat.text(".rb-echo") == "B > A"
    assert seat.text(".rb-unseen[aria-live]") == "Response B has rank 1 of 4"
    seat.press("ArrowLeft", "1")  # B again: cleared, the focus stays
    assert seat.focus() == "B"
    assert seat.text(".rb-echo") == "A"
    assert seat.text(".rb-submit") == "1 of 4 ranked"
    seat.press("Enter")  # too early: nothing happens
    assert seat.count == 4
    seat.press("1", "4", "Digit2")
    expect(seat.page.locator(".rb-submit")).to_have_text("Submit")
    assert seat.text(".rb-echo") == "B > A = D > C"
    prompt, before = seat.prompt, len(seat.server.rankings(seat.account))
    seat.press("Enter")
    seat.wait_change(prompt)
    last = seat.server.rankings(seat.account)[before]
    a, b, c, d = last.order
    assert last.tiers == [[b], [a, d], [c]]


def test_tab_and_arrows_go_from_card_to_card(sit: Callable[..., Seat]) -> None:
    seat = sit()
    find(seat, 4)
    walked = [seat.focus()]
    for key in ("Tab", "Tab", "Shift+Tab", "ArrowDown", "ArrowLeft", "ArrowUp"):
        seat.press(key)
        walked.append(seat.focus())
    assert "".join(walked) == "ABCBDCA"


def test_keys_are_left_alone_where_they_mean_something_else(sit: Callable[..., Seat]) -> None:
    seat = sit()
    prompt = seat.prompt
    seat.press("Control+Digit1", "Meta+Digit1", "Alt+Digit1")
    assert seat.text(".rb-echo") == "Nothing ranked yet"
    seat.page.focus(".rh-pages a")
    seat.press("1")
    assert seat.text(".rb-echo") == "Nothing ranked yet"
    seat.press("Alt+KeyS")
    seat.page.fill(".rb-reason input", "")
    seat.press("1", "2")
    assert seat.page.input_value(".rb-reason input") == "12"
    seat.press("Escape")
    assert seat.text(".rb-echo") == "Nothing ranked yet"
    seat.page.locator(".rb-rank").first.focus()
    seat.press(*backwards(seat.count))
    seat.page.focus(".rb-prompt button")
    seat.press("Enter")  # folds the prompt instead of submitting
    expect(seat.page.locator(".rb-prompt")).to_have_class(re.compile("folded"))
    assert seat.server.rankings(seat.account) == []
    seat.press("Enter")
    assert seat.prompt == prompt


def test_held_enter_submits_once(sit: Callable[..., Seat]) -> None:
    seat = sit()
    prompt = seat.prompt
    seat.press(*backwards(seat.count))
    seat.page.keyboard.down("Enter")
    seat.wait_change(prompt)
    for _ in range(5):
        seat.page.keyboard.down("Enter")  # repeats
    seat.page.keyboard.up("Enter")
    assert seat.text(".rb-echo") == "Nothing ranked yet"
    assert len(seat.server.rankings(seat.account)) == 1


def test_a_held_key_acts_once(sit: Callable[..., Seat]) -> None:
    seat = sit()
    for _ in range(2):
        seat.page.keyboard.down("1")
    seat.page.keyboard.up("1")
    assert seat.text(".rb-echo") == "A"
    seat.press("Alt+KeyK")
    prompt = seat.prompt
    for index in range(1, seat.count):
        seat.page.locator(".rb-card").nth(index).locator(".rb-rank").first.click()
    seat.page.focus(".rb-submit")
    seat.page.keyboard.down("Enter")  # a plain button now
    seat.wait_change(prompt)
    for _ in range(3):
        seat.page.keyboard.down("Enter")  # its repeats fall on a rank of the next task
    seat.page.keyboard.up("Enter")
    assert seat.text(".rb-echo") == "Nothing ranked yet"


def test_single_keys_can_be_switched_off_and_the_choice_is_kept(sit: Callable[..., Seat]) -> None:
    seat = sit()
    with seat.page.expect_response("**/api/settings"):
        seat.press("Alt+KeyK")
    seat.press("2", "Enter")
    # Enter on a rank presses it, as on every button.
    assert seat.text(".rb-card .rb-number") == "1"
    seat.press("ArrowUp", "ArrowRight", "Space")
    assert seat.text(".rb-card .rb-number") == "2"
    seat.wait_draft()
    seat.open()
    assert seat.page.get_attribute(".rb-switch", "aria-checked") == "false"
    seat.page.click(".rb-switch")
    seat.page.locator(".rb-rank").first.focus()
    seat.press("3" if seat.count > 2 else "1")
    assert seat.text(".rb-card .rb-number") in ("3", "1")


def test_mouse_and_raw_text(sit: Callable[..., Seat]) -> None:
    seat = sit()
    card = seat.page.locator(".rb-card").nth(1)
    card.get_by_role("radio", name="Rank 2").click()
    expect(card.locator(".rb-number")).to_have_text("2")
    expect(card.get_by_role("radio", name="Rank 2")).to_be_checked()
    card.locator(".rb-raw").click()
    expect(card.locator(".rb-plain")).to_be_visible()
    expect(card.locator(".rb-text")).to_be_hidden()
    seat.page.locator(".rb-card").first.locator(".rb-text").click()
    assert seat.focus() == "A"
    seat.press("Alt+KeyR")
    expect(seat.page.locator(".rb-card").first.locator(".rb-plain")).to_be_visible()


def test_undo_brings_the_comparison_back_as_it_was(sit: Callable[..., Seat]) -> None:
    seat = sit()
    find(seat, 5)
    prompt = seat.prompt
    seat.press("2", "1", "2", "3", "3", "Enter")
    seat.wait_change(prompt)
    expect(seat.page.locator(".rb-toast")).to_be_visible()
    before = len(seat.server.rankings(seat.account))
    seat.press("Alt+KeyU")
    seat.wait_state("^Undone")
    assert seat.prompt == prompt
    assert seat.text(".rb-echo") == "B > A = C > D = E"
    assert len(seat.server.rankings(seat.account)) == before - 1
    seat.press("Enter")
    seat.wait_change(prompt)
    assert len(seat.server.rankings(seat.account)) == before
    seat.page.click(".rb-toast button")
    seat.wait_state("^Undone")
    assert seat.prompt == prompt


def test_undo_without_anything_to_undo_says_so(sit: Callable[..., Seat]) -> None:
    seat = sit()
    seat.press("Alt+KeyU")
    assert "Not undone: " in seat.wait_state("^Not undone")
    seat.press("1")
    seat.wait_draft()


def test_skip_wants_a_reason(sit: Callable[..., Seat]) -> None:
    seat = sit()
    prompt = seat.prompt
    seat.press("Alt+KeyS")
    expect(seat.page.locator(".rb-dialog[open]")).to_contain_text("Why skip")
    seat.page.click(".rb-reason button")  # no reason given: still open
    expect(seat.page.locator(".rb-dialog[open]")).to_be_visible()
    seat.press("Escape")
    expect(seat.page.locator(".rb-dialog[open]")).to_have_count(0)
    assert seat.prompt == prompt
    seat.press("Alt+KeyS")
    seat.page.fill(".rb-reason input", "two of them are the same")
    seat.press("Enter")
    seat.wait_change(prompt)
    assert seat.wait_state("^Skipped")
    prompt = seat.prompt
    seat.page.get_by_role("button", name="Skip…").click()
    seat.page.locator(".rb-choice").first.click()
    seat.wait_change(prompt)
    stored = seat.server.rankings(seat.account)
    assert [ranking.kind for ranking in stored] == ["skip", "skip"]
    assert stored[0].reason == "two of them are the same"


def test_reload_keeps_draft_gaps_and_card_order(sit: Callable[..., Seat]) -> None:
    seat = sit()
    find(seat, 6)
    texts = seat.page.locator(".rb-card .rb-text").all_inner_texts()
    seat.press("3", "ArrowRight", "5")
    assert re.fullmatch(r"Draft saved \d\d:\d\d:\d\d", seat.wait_state("^Draft saved"))
    for clear in ("", "localStorage.clear()"):
        seat.page.evaluate(clear)
        seat.open()
        assert seat.page.locator(".rb-card .rb-text").all_inner_texts() == texts
        assert seat.page.locator(".rb-number").all_inner_texts() == ["3", "–", "5", "–", "–", "–"]
        assert seat.text(".rb-echo") == "A > C"
    seat.press("Digit4")  # gone at once, before the draft is sent: the mirror has it
    seat.open()
    assert seat.page.locator(".rb-number").all_inner_texts()[0] == "4"


def test_expired_session_keeps_the_draft_and_asks_to_log_in(sit: Callable[..., Seat]) -> None:
    seat = sit()
    prompt = seat.prompt
    seat.context.clear_cookies()
    seat.press("2")
    seat.page.wait_for_url("**/login?next=%2Fapp%2Fannotate")
    from tests.labeler.conftest import PASSWORD

    seat.page.fill("#name", seat.account.name)
    seat.page.fill("#password", PASSWORD)
    seat.press("Enter")
    seat.page.wait_for_selector(".rb-card")
    assert seat.prompt == prompt
    assert seat.text(".rb-card .rb-number") == "2"
    seat.page.click(".rh-out")
    seat.page.wait_for_url("**/login*")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_has_one_column_large_targets_and_no_sideways_scroll(sit: Callable[..., Seat], scheme: str) -> None:
    seat = sit(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True)
    sizes = set()
    for _ in range(9):
        sizes.add(seat.count)
        assert columns(seat.page) == 1
        assert seat.page.evaluate("document.documentElement.scrollWidth") == 390
        cut_off = "nodes => nodes.filter(node => node.scrollWidth > node.clientWidth).length"
        assert (
            seat.page.locator(".rb-card, .rb-turn, .rb-text:not(:has(math)), .rb-actions button").evaluate_all(cut_off)
            == 0
        )
        for target in seat.page.locator(".rb-rank, .rb-actions button").all():
            box = target.bounding_box()
            assert box and box["width"] >= 44 and box["height"] >= 44
        rank_all(seat)
    assert sizes == {2, 3, 4, 5, 6, 7, 8, 9}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(sit: Callable[..., Seat], scheme: str) -> None:
    seat = sit(color_scheme=scheme)
    seat.press("1")
    seat.wait_draft()
    selectors = [
        ".rb-text p", ".rb-progress", ".rb-hint", ".rb-letter", ".rb-rank[aria-checked=true]", ".rb-submit",
        ".rb-state", ".rb-number", ".rb-raw", ".rh-pages a", ".rb-prompt h2", ".rb-text code", ".rb-switch",
    ]  # fmt: skip
    assert {name: ratio for name in selectors if (ratio := seat.page.evaluate(CONTRAST, name)) < 4.5} == {}
    dark = seat.page.evaluate("getComputedStyle(document.querySelector('.rb-card')).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


CONTRAST = """selector => {
  const parse = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const node = document.querySelector(selector);
  let ground = node;
  while (parse(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const [a, b] = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(c => light(parse(c)));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


def test_hostile_texts_run_nothing_and_ask_nobody(sit: Callable[..., Seat]) -> None:
    seat = sit()
    while "__xss" not in seat.prompt:  # the one that is asked about in hostile words
        rank_all(seat)
    seat.press("Alt+KeyR")
    seat.page.wait_for_timeout(300)
    assert seat.page.evaluate("window.__xss") is None
    assert seat.page.locator(".rb script, .rb img, .rb svg, .rb iframe, .rb style, .rb [onerror]").count() == 0
    assert "<script>" in seat.prompt
    rank_all(seat)
    seat.page.goto(f"{seat.server.url}/app/history")
    seat.page.locator(".rb-answer", has_text="__xss").get_by_role("button", name="Open").click()
    seat.page.locator(".rb-answer-details .rb-card").first.wait_for()
    assert seat.page.evaluate("window.__xss") is None


def test_an_outage_loses_nothing_and_never_says_saved(browser: Browser, tmp_path: Path) -> None:
    with labeler(tmp_path) as server:
        seat = Seat(browser, server, "otto")
        prompt, count = seat.prompt, seat.count
        seat.press("Digit1")
        seat.wait_draft()
        server.stop()
        said = seat.note_states()
        seat.press(*["Digit2"] * (count - 1))
        seat.wait_state("^Offline – kept on this device, retrying$")
        seat.press("Enter")
        seat.wait_state("^Offline – kept on this device, retrying$")
        assert seat.page.locator(".rb-saving button").is_visible()
        seat.press("Enter", "Digit1", "Alt+KeyU")  # nothing more goes out before the answer
        seat.page.wait_for_timeout(1500)
        assert seat.text(".rb-state") == "Offline – kept on this device, retrying"
        assert seat.prompt == prompt
        assert {re.sub(r"\W.*", "", state) for state in said()} == {"Saving", "Offline"}
        server.start()
        seat.wait_state(r"^Saved \d\d:\d\d:\d\d$", timeout=10000)
        seat.wait_change(prompt)
        first, *rest = server.rankings(seat.account)
        assert not rest
        assert first.tiers == [[first.order[0]], first.order[1:]]

        prompt = seat.prompt
        seat.press(*backwards(seat.count))
        seat.wait_draft()
        server.stop()
        seat.press("Enter")
        seat.wait_state("^Offline")
        seat.page.goto("about:blank")  # the page is closed during the outage: the answer is sent from the device
        server.start()
        seat.open()
        seat.wait_state("^Saved")
        assert seat.prompt != prompt
        assert len(server.rankings(seat.account)) == 2
        assert seat.errors == []
        seat.context.close()


@pytest.mark.parametrize("instead", ["nothing", "another page", "unavailable"])
def test_an_answer_that_was_stored_but_not_heard_of_is_sent_again(sit: Callable[..., Seat], instead: str) -> None:
    seat = sit()
    prompt = seat.prompt
    lost = []

    def lose(route: Any) -> None:
        route.fetch()  # the server stores it, the answer is lost
        lost.append(route.request.post_data_json["nonce"])
        if instead == "nothing":
            route.abort()
        else:
            route.fulfill(
                status=200 if instead == "another page" else 503, content_type="text/html", body="<p>Hotel</p>"
            )

    seat.page.route("**/api/submit", lose, times=1)
    seat.press(*backwards(seat.count), "Enter")
    seat.wait_state("retrying$")
    assert seat.prompt == prompt
    seat.wait_state("^Saved")
    seat.wait_change(prompt)
    assert [ranking.nonce for ranking in seat.server.rankings(seat.account)] == lost


def test_a_refused_answer_says_why_and_offers_another_try(sit: Callable[..., Seat]) -> None:
    seat = sit()
    prompt = seat.prompt
    seat.press(*backwards(seat.count))
    seat.wait_draft()
    echo = seat.text(".rb-echo")
    held = seat.server.store.queue.held(seat.account)
    assert held
    seat.server.store.queue.release(held)
    seat.press("Enter")
    assert seat.wait_state("^Not saved: .+ran out")
    seat.page.click(".rb-saving button")
    seat.page.wait_for_function("document.querySelector('.rb-saving button').hidden")
    for _ in range(9):  # the released one comes back some time, with what was placed
        if seat.prompt == prompt:
            break
        rank_all(seat)
    assert seat.text(".rb-echo") == echo


def test_new_work_is_found_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    with labeler(tmp_path) as server:
        study = server.store.studies.default()
        server.store.studies.set_status(study, "paused")
        seat = Seat(browser, server, "paula")
        assert "paused" in seat.text(".rb-rest")
        server.store.studies.set_status(study, "active")
        seat.page.wait_for_selector(".rb-card", timeout=8000)
        assert seat.focus() == "A"
        seat.context.close()


def test_no_model_or_policy_reaches_the_page(sit: Callable[..., Seat]) -> None:
    seat = sit()
    answer = seat.page.evaluate("fetch('/api/next').then(reply => reply.text())")
    assert "secret" not in answer + seat.page.content()


def test_history_and_dashboard_show_what_was_done(sit: Callable[..., Seat]) -> None:
    seat = sit()
    count = seat.count
    rank_all(seat)
    seat.page.click(".rh-pages >> text=History")
    expect(seat.page.locator("main")).to_contain_text(" > ".join("ABCDEFGHI"[:count][::-1]))
    seat.page.click(".rh-pages >> text=Dashboard")
    expect(seat.page.locator(".rb-numbers dd").first).to_have_text("1")
    expect(seat.page.locator(".rb-days tbody tr").last.locator(".rb-amount").first).to_have_text("1")


RANKING_CASES = [
    ([], "", [], []),
    ([("a", 1), ("b", 1), ("c", 3)], "A = B > C", [["a", "b"], [], ["c"]], [["a", "b"], ["c"]]),
    ([("a", 2), ("b", 1), ("a", 2)], "B", [["b"]], [["b"]]),
    (
        [("d", 2), ("b", 1), ("a", 2), ("c", 4)],
        "B > D = A > C",
        [["b"], ["d", "a"], [], ["c"]],
        [["b"], ["d", "a"], ["c"]],
    ),
]


@pytest.mark.parametrize(("presses", "echo", "draft", "tiers"), RANKING_CASES)
def test_ranking(browser: Browser, presses: Any, echo: str, draft: Any, tiers: Any) -> None:
    page = browser.new_page()
    page.add_script_tag(content=(STATIC / "ranking.js").read_text())
    result = page.evaluate(
        """presses => { const r = new Ranking(['a', 'b', 'c', 'd']); presses.forEach(press => r.toggle(...press));
        const again = new Ranking(r.ids, r.draftTiers());
        return [r.echo(), r.draftTiers(), r.tiers(), again.draftTiers()]; }""",
        presses,
    )
    assert result == [echo, draft, tiers, draft]
    page.close()


def test_active_time_leaves_out_pauses_and_hidden_tabs(browser: Browser) -> None:
    page = browser.new_page()
    page.add_script_tag(content=(STATIC / "stopwatch.js").read_text())
    total = page.evaluate(
        """() => { let now = 1e6, here = true; Date.now = () => now;
        const watch = new Stopwatch(); watch.running = () => here; watch.reset(500);
        const pass = (ms) => { now += ms; watch.touch(); };
        pass(10000); pass(300000);                      // 10 s, then a long pause: counts 60 s
        here = false; pass(5000); pass(100000);         // leaves after 5 s; nothing counts until
        here = true; pass(50000); pass(2000);           // the tab is back
        return watch.read(); }"""
    )
    assert total == 500 + 10000 + 60000 + 5000 + 2000
    page.close()
