"""Ways to answer, in a real browser: dragging, best and worst, pairs, strengths, flags, ratings, rewrite, history."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Locator, expect

from labeler.board import STATIC
from preferences.rankings import ALL_BAD
from tests.labeler.browser import Labeler, Seat

pytestmark = [pytest.mark.browser]


@pytest.fixture
def sit(sit: Callable[..., Seat], server: Labeler) -> Iterator[Callable[..., Seat]]:
    """A new annotator in front of a comparison of `count` responses, in a study of that mode and plan."""

    def make(count: int, mode: str = "ranking", plan: dict[str, Any] | None = None, **context: Any) -> Seat:
        set_plan(server, mode, plan or {})
        seat = sit(**context)
        while seat.count != count:
            skip(seat)
        return seat

    yield make
    set_plan(server, "ranking", {})


def set_plan(server: Labeler, mode: str, plan: dict[str, Any]) -> None:
    """Change the study."""
    study = server.store.studies.default()
    with server.store.write() as db:
        values = [mode, json.dumps({"labels_train": 1000, **plan}), study.id]
        db.execute("UPDATE studies SET mode = ?, plan = ? WHERE id = ?", values)


def skip(seat: Seat) -> None:
    """Go on to another comparison."""
    prompt = seat.prompt
    seat.press("Alt+KeyS")
    seat.page.locator(".rb-choice").first.click()
    seat.wait_change(prompt)


def last(seat: Seat) -> Any:
    """What is stored last of the annotator."""
    return seat.server.rankings(seat.account)[-1]


def submit(seat: Seat) -> Any:
    """Submit; the stored ranking."""
    prompt = seat.prompt
    seat.page.click(".rb-submit")
    seat.wait_change(prompt)
    seat.wait_state("^Saved")
    return last(seat)


def centre(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def lane(seat: Seat, rank: int | str) -> Locator:
    return seat.page.locator(f'.rb-lane[data-rank="{rank}"]')


def drag(seat: Seat, start: Locator, to: tuple[float, float]) -> None:
    """With the mouse."""
    seat.page.mouse.move(*centre(start))
    seat.page.mouse.down()
    seat.page.mouse.move(to[0], to[1] - 5, steps=4)
    seat.page.mouse.move(*to)
    seat.page.mouse.up()


def lanes(seat: Seat) -> dict[str, str]:
    """Rank -> the letters that lie there."""
    texts = seat.page.locator(".rb-lane").evaluate_all(
        "lanes => lanes.map(lane => [lane.dataset.rank, "
        "[...lane.querySelectorAll('.rb-chip')].map(chip => chip.textContent).join('')])"
    )
    return {rank: letters for rank, letters in texts if letters}


def test_letters_are_dragged_to_ranks_tied_put_in_front_and_taken_back(sit: Callable[..., Seat]) -> None:
    seat = sit(4)
    handle = seat.page.locator(".rb-letter")
    drag(seat, handle.nth(0), centre(lane(seat, 1)))
    assert seat.text(".rb-echo") == "A"
    assert seat.text(".rb-unseen[aria-live]") == "Response A has rank 1 of 4"
    drag(seat, handle.nth(1), centre(lane(seat, 1)))
    assert lanes(seat) == {"": "CD", "1": "AB"}
    box = lane(seat, 1).bounding_box()
    assert box
    drag(seat, handle.nth(2), (box["x"] + 4, box["y"] + box["height"] / 2))  # in front of them
    assert seat.text(".rb-echo") == "C > A = B"
    drag(seat, seat.page.locator(".rb-chip", has_text="B"), centre(lane(seat, "")))
    assert seat.text(".rb-echo") == "C > A"
    drag(seat, seat.page.locator(".rb-chip", has_text="B"), centre(lane(seat, 4)))
    drag(seat, handle.nth(3), centre(lane(seat, 3)))
    seat.page.mouse.move(*centre(handle.nth(0)))
    seat.page.mouse.down()
    seat.page.mouse.move(*centre(lane(seat, 4)), steps=3)
    expect(lane(seat, 4)).to_have_class(re.compile("over"))
    seat.press("Escape")  # given up: nothing changes
    seat.page.mouse.up()
    assert seat.page.locator(".rb-ghost").count() == 0
    assert seat.text(".rb-echo") == "C > A > D > B"
    stored = submit(seat)
    a, b, c, d = stored.order
    assert stored.tiers == [[c], [a], [d], [b]]


def test_a_finger_drags_too_and_a_tap_on_a_letter_does_not(sit: Callable[..., Seat]) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    seat = sit(3, **phone)
    touch = seat.context.new_cdp_session(seat.page)

    def at(kind: str, x: float = 0, y: float = 0) -> None:
        points = [] if kind == "touchEnd" else [{"x": x, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    assert not lane(seat, 1).is_visible()
    x, y = centre(seat.page.locator(".rb-letter").first)
    at("touchStart", x, y)
    at("touchMove", x + 5, y + 20)
    expect(lane(seat, 1)).to_be_visible()
    at("touchMove", *centre(lane(seat, 2)))
    at("touchEnd")
    expect(seat.page.locator(".rb-echo")).to_have_text("A")
    assert seat.text(".rb-card .rb-number") == "2"
    assert not lane(seat, 1).is_visible()
    assert seat.page.evaluate("window.scrollY") == 0
    seat.page.locator(".rb-letter").nth(1).tap()
    assert seat.text(".rb-echo") == "A"


@pytest.mark.parametrize("hand", ["keys", "mouse", "dragging"])
def test_best_and_worst_first(sit: Callable[..., Seat], hand: str) -> None:
    seat = sit(6, "best-worst")
    cards = seat.page.locator(".rb-card")
    assert seat.text(".rb-submit") == "0 of 2 ranked"
    if hand == "keys":
        seat.press("1", "ArrowRight", "2", "ArrowRight", "1")  # C takes the best from A
    elif hand == "mouse":
        cards.nth(2).get_by_role("radio", name="Best").click()
        cards.nth(1).get_by_role("radio", name="Worst").click()
    else:
        drag(seat, seat.page.locator(".rb-letter").nth(2), centre(lane(seat, 1)))
        drag(seat, seat.page.locator(".rb-letter").nth(1), centre(lane(seat, 6)))
    assert seat.text(".rb-echo") == "C > (A, D, E, F) > B"
    seat.wait_draft()
    seat.open()
    assert seat.text(".rb-echo") == "C > (A, D, E, F) > B"
    stored = submit(seat)
    a, b, c, *others = stored.order
    assert (stored.mode, stored.tiers) == ("best-worst", [[c], [a, *others], [b]])


def test_after_best_and_worst_the_others_may_be_ranked_too(sit: Callable[..., Seat]) -> None:
    seat = sit(6, "best-worst")
    seat.press("1", "ArrowRight", "2")
    seat.page.click(".rb-mode")
    assert seat.text(".rb-submit") == "2 of 6 ranked"
    assert seat.page.locator(".rb-number").all_inner_texts() == ["1", "6", "–", "–", "–", "–"]
    seat.page.locator(".rb-card").nth(2).locator(".rb-rank").first.focus()
    seat.press("2", "3", "4", "5")
    seat.wait_draft()
    seat.open()
    assert seat.text(".rb-echo") == "A > C > D > E > F > B"
    stored = submit(seat)
    assert stored.mode == "ranking" and len(stored.tiers) == 6


def test_code_can_be_copied_whatever_is_asked(sit: Callable[..., Seat]) -> None:
    seat = sit(7, "best-worst")
    while "__xss" not in seat.prompt:  # one of its responses is code
        skip(seat)
    for asked in ("best-worst", "ranking", "best-worst"):
        expect(seat.page.locator(f".rb-cards[data-mode={asked}] .rb-copy")).to_have_count(1)
        seat.page.click(".rb-mode")


@pytest.mark.parametrize("hand", ["keys", "mouse"])
def test_pairs_have_four_strengths_and_a_tie(sit: Callable[..., Seat], hand: str) -> None:
    seat = sit(2, "pairwise")
    tie = seat.page.get_by_role("button", name="About equal")
    if hand == "keys":
        seat.press("0")
        expect(tie).to_have_attribute("aria-pressed", "true")
        assert seat.text(".rb-submit") == "Submit"
        seat.press("ArrowRight", "3")
    else:
        tie.click()
        seat.page.get_by_role("radio", name="B is clearly better").click()
    expect(tie).to_have_attribute("aria-pressed", "false")
    assert seat.text(".rb-echo") == "B > A, clearly better"
    seat.wait_draft()
    seat.open()
    assert seat.text(".rb-echo") == "B > A, clearly better"
    stored = submit(seat)
    a, b = stored.order
    assert (stored.mode, stored.tiers, stored.strengths) == ("pairwise", [[b], [a]], [3])
    seat.press("Alt+KeyU")
    seat.wait_state("^Undone")
    seat.press("0", "Enter")
    seat.wait_state("^Saved")
    assert (last(seat).tiers, last(seat).strengths) == ([[a, b]], [])


def test_strengths_flags_and_ratings(sit: Callable[..., Seat]) -> None:
    seat = sit(3, plan={"strengths": True, "rating": True, "flags": ["harmful", "made_up"]})
    expect(seat.page.locator(".rb-strengths")).to_be_hidden()
    seat.press("2", "1", "1")
    assert seat.page.locator(".rb-gap-name").all_inner_texts() == ["B = C > A"]
    seat.page.get_by_role("radiogroup", name="How much better B = C is than A").get_by_text("much").click()
    seat.page.locator(".rb-card").nth(1).locator(".rb-rank").first.focus()
    seat.press("Alt+KeyF", "Space")
    expect(seat.page.get_by_role("button", name="Harmful", pressed=True)).to_be_visible()
    seat.press("Tab", "Space", "Alt+KeyF")
    assert seat.focus() == "B"
    assert seat.page.locator(".rb-flag:visible").all_inner_texts() == ["Harmful", "made_up"]
    seat.page.locator(".rb-card").nth(2).locator(".rb-rate").nth(4).click()
    seat.wait_draft()
    seat.open()
    stored = submit(seat)
    _, b, c = stored.order
    assert sorted(stored.tiers[0]) == sorted([b, c])
    assert (stored.strengths, stored.flags, stored.ratings) == ([4], {b: ["harmful", "made_up"]}, {c: 5})


def test_a_study_without_flags_shows_none(sit: Callable[..., Seat]) -> None:
    seat = sit(3, plan={"flags": []})
    assert seat.page.locator(".rb-flag, .rb-flag-opener, .rb-rate").count() == 0
    seat.press("Alt+KeyF", "1")
    assert seat.text(".rb-echo") == "A"


def test_reason_and_rewrite_with_its_differences(sit: Callable[..., Seat]) -> None:
    seat = sit(3)
    seat.press("Alt+KeyW")
    expect(seat.page.locator(".rb-note-problem")).to_have_text("Rank a best response first")
    seat.page.locator(".rb-rank").first.focus()
    seat.press("2", "1", "3", "Alt+KeyE")
    seat.page.keyboard.type("B is 1 of the best")
    seat.press("Escape")
    assert seat.focus() != ""
    seat.press("Alt+KeyW")
    editor = seat.page.locator(".rb-rewrite")
    original = editor.input_value()
    assert original.startswith("**Answer**")
    expect(seat.page.locator(".rb-diff-box")).to_have_text("Nothing changed yet")
    editor.fill(original.replace("Answer", "Reply"))
    assert seat.page.locator(".rb-diff del").all_inner_texts() == ["Answer"]
    assert seat.page.locator(".rb-diff ins").all_inner_texts() == ["Reply"]
    seat.press("Control+Enter")
    seat.wait_state("^Saved")
    stored = last(seat)
    assert (stored.reason, stored.rewrite) == ("B is 1 of the best", original.replace("Answer", "Reply"))
    assert stored.rewrite_of == stored.order[1]
    texts = seat.server.store.responses.get_many(stored.order)
    assert texts[stored.order[1]].text == original


def test_a_rewrite_of_what_is_no_longer_the_best_is_not_lost_and_not_sent(sit: Callable[..., Seat]) -> None:
    seat = sit(3)
    seat.press("2", "1", "3", "Alt+KeyW")
    seat.page.locator(".rb-rewrite").fill("Better.")
    seat.page.locator(".rb-card").first.locator(".rb-rank").first.click()  # A = B
    expect(seat.page.locator(".rb-note-problem")).to_be_hidden()
    seat.page.locator(".rb-card").nth(1).locator(".rb-rank").nth(2).click()  # now B is the last, like C
    expect(seat.page.locator(".rb-note-problem")).to_contain_text("response B, which is no longer the best")
    before = len(seat.server.rankings(seat.account))
    seat.page.click(".rb-submit")
    expect(seat.page.locator(".rb-rewrite")).to_be_focused()
    assert len(seat.server.rankings(seat.account)) == before
    seat.page.get_by_role("button", name="Discard the rewrite").click()
    assert submit(seat).rewrite == ""


def test_an_order_as_shown_is_asked_about_once(sit: Callable[..., Seat]) -> None:
    seat = sit(3)
    before = len(seat.server.rankings(seat.account))
    seat.press("1", "2", "3", "Enter")
    box = seat.page.locator(".rb-dialog[open]")
    expect(box).to_contain_text("Is this your ranking?")
    seat.press("Escape")
    assert len(seat.server.rankings(seat.account)) == before
    seat.page.click(".rb-submit")
    seat.press("Enter")  # yes
    seat.wait_state("^Saved")
    stored = last(seat)
    assert stored.tiers == [[item] for item in stored.order]
    events = [event for event in seat.server.store.events.newest(50) if event.kind == "order as shown"]
    assert events[0].detail == {"ranking": stored.id}


def test_all_bad_and_cannot_be_ranked(sit: Callable[..., Seat]) -> None:
    seat = sit(4)
    prompt = seat.prompt
    seat.press("Alt+KeyB")
    seat.wait_change(prompt)
    stored = last(seat)
    assert (stored.kind, len(stored.tiers)) == ("ranking", 1) and ALL_BAD in stored.flags
    seat.press("Alt+KeyU")
    seat.wait_state("^Undone")
    assert seat.prompt == prompt and seat.text(".rb-echo") == "Nothing ranked yet"
    seat.page.click(".rb-skip")
    seat.page.get_by_role("button", name="The prompt makes no sense").click()
    seat.wait_change(prompt)
    assert (last(seat).kind, last(seat).verdict, last(seat).reason) == (
        "skip",
        "cannot_rank",
        "The prompt makes no sense",
    )


def test_an_answer_is_opened_from_the_history_and_changed(sit: Callable[..., Seat]) -> None:
    seat = sit(3)
    prompt = seat.prompt
    seat.press("3", "2", "1")
    old = submit(seat)
    seat.page.click(".rh-pages >> text=History")
    line = seat.page.locator(".rb-answer").first
    expect(line).to_contain_text("C > B > A")
    line.get_by_role("button", name="Open").click()
    expect(line.locator(".rb-number")).to_have_text(["3", "2", "1"])
    line.get_by_role("button", name="Change this answer").click()
    seat.page.wait_for_url("**/app/annotate")
    expect(seat.page.locator(".rb-editing")).to_be_visible()
    assert (seat.prompt, seat.text(".rb-echo")) == (prompt, "C > B > A")
    seat.page.get_by_role("button", name="Keep it as it was").click()
    seat.wait_change(prompt)
    assert last(seat).id == old.id
    seat.page.goto(f"{seat.server.url}/app/history")
    seat.page.locator(".rb-answer").first.get_by_role("button", name="Open").click()
    seat.page.get_by_role("button", name="Change this answer").click()
    seat.page.wait_for_selector(".rb-editing")
    seat.page.locator(".rb-card").first.locator(".rb-rank").nth(1).click()  # A = B
    stored = submit(seat)
    a, b, c = stored.order
    assert stored.supersedes == old.id
    assert [sorted(tier) for tier in stored.tiers] == [[c], sorted([a, b])]
    assert old.id not in {ranking.id for ranking in seat.server.rankings(seat.account)}


INSERTS = [
    ([("a", 1), ("b", 2)], ("c", 1), "C > A > B"),
    ([("a", 1), ("b", 1)], ("c", 1), "C > A = B"),
    ([("a", 1), ("b", 3)], ("c", 3), "A > C > B"),
    ([("a", 4), ("b", 3)], ("c", 4), "B > C > A"),
    ([("a", 1), ("b", 2), ("c", 3), ("d", 4)], ("d", 1), "D > A > B > C"),
    ([("a", 1), ("b", 2), ("c", 3), ("d", 4)], ("a", 4), "B > C > A > D"),
]


@pytest.mark.parametrize(("placed", "insert", "echo"), INSERTS)
def test_insert(browser: Browser, placed: Any, insert: Any, echo: str) -> None:
    page = browser.new_page()
    page.add_script_tag(content=(STATIC / "ranking.js").read_text())
    result = page.evaluate(
        """([placed, insert]) => { const r = new Ranking(['a', 'b', 'c', 'd']);
        placed.forEach(one => r.place(...one)); r.insert(...insert); return [r.echo(), Math.max(...r.ranks.values())]; }""",
        [placed, insert],
    )
    assert result[0] == echo and result[1] <= 4
    page.close()


DIFFS = [
    ("the cat sat", "the dog sat", "=the |-cat|+dog|= sat"),
    ("", "new", "+new"),
    ("old", "", "-old"),
    ("same", "same", "=same"),
    ("a b c", "a c", "=a |-b |=c"),
    ("你好 world", "您好 world", "-你好|+您好|= world"),
]


@pytest.mark.parametrize(("before", "after", "parts"), DIFFS)
def test_word_diff(browser: Browser, before: str, after: str, parts: str) -> None:
    page = browser.new_page()
    page.add_script_tag(content=(STATIC / "diff.js").read_text())
    result = page.evaluate("([a, b]) => wordDiff(a, b).map(part => part.join('')).join('|')", [before, after])
    assert result == parts
    page.close()


def test_word_diff_is_right_and_shortest_on_random_texts(browser: Browser) -> None:
    """Against the length of the longest common subsequence by the textbook table."""
    page = browser.new_page()
    page.add_script_tag(content=(STATIC / "diff.js").read_text())
    wrong = page.evaluate(
        """() => { let seed = 1; const next = n => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
        const text = () => Array.from({length: next(14)}, () => 'abc'[next(3)]).join(' ');
        const lcs = (a, b) => { const t = Array.from({length: a.length + 1}, () => Array(b.length + 1).fill(0));
          for (let i = 1; i <= a.length; i++) for (let j = 1; j <= b.length; j++)
            t[i][j] = a[i-1] === b[j-1] ? t[i-1][j-1] + 1 : Math.max(t[i-1][j], t[i][j-1]);
          return t[a.length][b.length]; };
        let bad = 0;
        for (let n = 0; n < 500; n++) { const [a, b] = [text(), text()], parts = wordDiff(a, b);
          const of = kinds => parts.filter(p => kinds.includes(p[0])).map(p => p[1]).join('');
          const kept = parts.filter(p => p[0] === '=').flatMap(p => words(p[1])).length;
          if (of('=-') !== a || of('=+') !== b || kept !== lcs(words(a), words(b))) bad++; }
        return bad; }"""
    )
    assert wrong == 0
    page.close()
