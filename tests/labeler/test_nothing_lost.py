"""Whatever happens to the network, the server, the tab or the time: nothing that was said is lost or said twice."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect

from labeler.assignment import LEASE_SECONDS
from tests.labeler.browser import Labeler, Seat
from tests.labeler.conftest import PASSWORD, add_comparison
from tests.waiting import until

pytestmark = [pytest.mark.browser]


@pytest.fixture(scope="module")
def server(server: Labeler) -> Labeler:
    """With so many comparisons that one can be taken ahead."""
    study = server.store.studies.default()
    with server.store.write():
        for number in range(12):
            add_comparison(server.store, study, f"Compare {number} and {number * 7919}, please.", ["one", "two"])
    return server


@pytest.fixture
def seat(sit: Callable[..., Seat]) -> Seat:
    return sit()


def rank(seat: Seat, page: Page | None = None) -> None:
    """Last shown is the best."""
    where = page or seat.page
    for key in range(where.locator(".rb-card").count(), 0, -1):
        where.keyboard.press(f"Digit{key}")


def wait_ahead(seat: Seat) -> None:
    """Wait until what comes next is on this device."""
    seat.page.wait_for_function(
        "() => performance.getEntriesByName(location.origin + '/api/ahead').some(e => e.responseEnd)"
    )
    seat.page.wait_for_timeout(50)


def draft_of(seat: Seat) -> dict[str, Any] | None:
    held = seat.server.store.queue.held(seat.account)
    draft = held and seat.server.store.queue.draft(held.comparison, seat.account)
    return draft.body if draft else None


def test_a_change_is_on_the_server_within_a_second(seat: Seat) -> None:
    seat.press("1")
    begun = time.time()
    until(lambda: draft_of(seat), 15)
    held = seat.server.store.queue.held(seat.account)
    assert held
    draft = seat.server.store.queue.draft(held.comparison, seat.account)
    assert draft and draft.updated - begun < 1.0


def test_the_next_one_is_there_before_the_answer_is_stored_but_never_called_saved(seat: Seat) -> None:
    wait_ahead(seat)
    prompt = seat.prompt
    held_back: list[Any] = []
    seat.page.route("**/api/submit", lambda route: held_back.append(route))  # noqa: PLW0108
    said = seat.note_states()
    rank(seat)
    seat.press("Enter")
    seat.wait_change(prompt)
    following = seat.prompt
    seat.press("1")  # one can go on at once
    assert seat.text(".rb-echo") == "A"
    assert not [state for state in said() if state.startswith("Saved")]
    until(lambda: (seat.page.wait_for_timeout(20), held_back)[1], 15)
    held_back[0].continue_()
    seat.wait_state("^(Saved|Draft saved)")
    assert (seat.prompt, seat.text(".rb-echo")) == (following, "A")
    assert len(seat.server.rankings(seat.account)) == 1


def test_a_refused_answer_comes_back_though_the_next_one_is_shown(seat: Seat) -> None:
    wait_ahead(seat)
    prompt = seat.prompt
    refusal = {"error": "No, not like this.", "code": "bad_tiers"}
    seat.page.route("**/api/submit", lambda route: route.fulfill(status=422, json=refusal), times=1)
    rank(seat)
    echo = seat.text(".rb-echo")
    seat.press("Enter")
    assert "No, not like this." in seat.wait_state("^Not saved")
    expect(seat.page.locator(".rb-turns .rb-text")).to_have_text(prompt)
    expect(seat.page.locator(".rb-echo")).to_have_text(echo)
    seat.press("Enter")
    seat.wait_state("^Saved")
    assert len(seat.server.rankings(seat.account)) == 1


def test_several_answers_wait_for_the_network_and_are_sent_once_in_order(seat: Seat) -> None:
    wait_ahead(seat)
    first = seat.prompt
    seat.context.set_offline(True)
    rank(seat)
    seat.press("Enter")
    seat.wait_change(first)
    second = seat.prompt
    rank(seat)
    seat.press("Enter")
    assert seat.wait_state("2 answers") == "Offline – 2 answers kept on this device, retrying"
    assert seat.prompt == second  # nothing more is here
    seat.press("1", "Enter")
    assert seat.server.rankings(seat.account) == []
    seat.context.set_offline(False)
    seat.wait_state("^Saved", timeout=20000)
    seat.wait_change(second)
    stored = until(lambda: len(found := seat.server.rankings(seat.account)) == 2 and found, 15)
    prompts = [
        seat.server.store.prompts.get(seat.server.store.comparisons.get(one.comparison).prompt).messages[-1]["content"]
        for one in stored
    ]
    assert [prompt[:12] for prompt in prompts] == [first[:12], second[:12]]
    seat.open()
    assert len(seat.server.rankings(seat.account)) == 2


def test_an_unsent_change_is_restored_and_sent_after_a_reload(seat: Seat) -> None:
    # In the page itself: what it sends on leaving outlives it, and a route would miss it now and then.
    seat.page.evaluate("() => { window.fetch = () => Promise.reject(new TypeError('offline')); }")
    seat.press("2")
    seat.wait_state("^Offline")
    seat.page.goto("about:blank")
    assert draft_of(seat) is None
    seat.open()
    assert seat.text(".rb-card .rb-number") == "2"
    until(lambda: draft_of(seat), 15)


def test_what_was_changed_elsewhere_since_wins_over_an_old_mirror(seat: Seat) -> None:
    seat.press("2")
    seat.wait_draft()
    held = seat.server.store.queue.held(seat.account)
    assert held
    seat.server.store.queue.save_draft(held.comparison, seat.account, {"tiers": [[held.order[1]]]})
    seat.open()
    assert seat.text(".rb-echo") == "B"


def test_two_tabs_show_the_same_and_never_fight(seat: Seat) -> None:
    other = seat.context.new_page()
    other.goto(f"{seat.server.url}/app/annotate")
    other.wait_for_selector(".rb-card")
    prompt = seat.prompt
    assert other.inner_text(".rb-turns") == prompt
    seat.page.bring_to_front()
    seat.press("2", "1")
    expect(other.locator(".rb-echo")).to_have_text("B > A")
    other.bring_to_front()
    rank(seat, other)
    expect(seat.page.locator(".rb-echo")).to_have_text(other.inner_text(".rb-echo"))
    other.click(".rb-submit")
    seat.wait_change(prompt)
    other.wait_for_function("prompt => document.querySelector('.rb-turns')?.innerText !== prompt", arg=prompt)
    assert other.inner_text(".rb-turns") == seat.prompt
    assert len(seat.server.rankings(seat.account)) == 1
    assert "Not saved" not in seat.text(".rb-state") + other.inner_text(".rb-state")


def test_another_device_is_caught_up_with(seat: Seat, browser: Browser) -> None:
    device = browser.new_context(viewport={"width": 390, "height": 844})
    device.request.post(f"{seat.server.url}/login", data={"name": seat.account.name, "password": PASSWORD})
    page = device.new_page()
    page.goto(f"{seat.server.url}/app/annotate")
    page.wait_for_selector(".rb-card")
    seat.press("2")
    seat.wait_draft()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(page.locator(".rb-echo")).to_have_text("A")
    prompt = seat.prompt
    page.get_by_role("button", name="All bad").click()
    page.wait_for_function("prompt => document.querySelector('.rb-turns')?.innerText !== prompt", arg=prompt)
    seat.page.wait_for_timeout(3100)  # it does not ask more often
    seat.page.evaluate("window.dispatchEvent(new Event('focus'))")
    seat.wait_change(prompt)
    assert len(seat.server.rankings(seat.account)) == 1
    device.close()


def end_lease(seat: Seat) -> str:
    """The annotator's lease runs out; its id."""
    held = seat.server.store.queue.held(seat.account)
    assert held
    with seat.server.store.write() as db:
        db.execute("UPDATE leases SET expires = ? WHERE id = ?", [seat.server.store.clock() - 1, held.id])
    return held.id


def test_an_answer_whose_time_ran_out_offline_is_stored_all_the_same(seat: Seat) -> None:
    prompt = seat.prompt
    rank(seat)
    seat.wait_draft()
    end_lease(seat)
    seat.press("Enter")
    seat.wait_state("^Saved")
    seat.wait_change(prompt)
    assert len(seat.server.rankings(seat.account)) == 1


def test_time_is_counted_down_at_the_end_only_and_can_be_had_again(seat: Seat) -> None:
    seat.page.clock.install()
    seat.open()
    seat.press("1")
    seat.page.clock.run_for(1000)
    seat.wait_draft()
    lease = seat.server.store.queue.held(seat.account)
    seat.page.clock.fast_forward(int(LEASE_SECONDS - 180) * 1000)
    assert "more" not in seat.text(".rb-state")
    seat.page.clock.fast_forward(90_000)
    seat.page.clock.run_for(1500)
    assert re.fullmatch(r"This comparison is yours for 1:\d\d more", seat.wait_state("yours for"))
    with seat.page.expect_response("**/api/renew"):
        seat.page.get_by_role("button", name="Extend").click()
    seat.page.wait_for_function("() => !/yours for/.test(document.querySelector('.rb-state').textContent)")
    seat.page.clock.fast_forward(int(LEASE_SECONDS + 5) * 1000)
    seat.page.clock.run_for(1500)
    seat.wait_state("ran out; your draft is kept$")
    assert seat.text(".rb-echo") == "A"
    end_lease(seat)
    with seat.page.expect_response("**/api/renew"):
        seat.page.get_by_role("button", name="Go on with it").click()
    again = until(lambda: seat.server.store.queue.held(seat.account), 15)
    assert lease and again.id == lease.id
    assert seat.text(".rb-echo") == "A"


def test_the_lease_of_whoever_works_is_renewed_by_itself(seat: Seat) -> None:
    seat.page.clock.install()
    seat.open()
    seat.page.clock.fast_forward(int(LEASE_SECONDS - 500) * 1000)
    seat.page.mouse.move(200, 300)
    seat.page.mouse.move(300, 300)
    with seat.page.expect_response("**/api/renew"):
        seat.page.clock.run_for(20_000)
