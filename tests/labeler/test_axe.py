"""No page breaks a rule of WCAG 2.2 AA that axe-core can see, and what it cannot see: focus, targets, motion, sizes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page

from labeler.care import invite
from labeler.languages import LANGUAGES, strings
from tests.labeler.browser import Labeler, Seat, labeler, open_tab
from tests.labeler.conftest import add_urgent
from tests.labeler.trained import show_training
from tests.preferences.make import add_checks, add_duel

pytestmark = [pytest.mark.browser]

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = """rules => axe.run(document, {runOnly: rules}).then(found => found.violations.map(rule =>
  [rule.id, rule.help, ...rule.nodes.slice(0, 3).map(node => `${node.html.slice(0, 120)} ${node.failureSummary}`)]))"""
SHOWN = {
    "guidelines": (".rb-guide-open", ".rb-guide-text .rb-text"),
    "compare": (".rb-tools > button:nth-of-type(2)", ".rb-wide[open]"),
    "keys": (".rb-help", "dialog[open]"),
}
OF_TAB = {
    "What is asked": "Save", "People": "Make links", "Rankings": "Rank again what is older than the guidelines",
    "Quality": "Pairwise agreement", "Blind evaluation": "However often one looks", "Checks": "longest",
    "Messages": "Why?",
}  # fmt: skip
COMPUTED = {
    "Quality": "Compute the statistics",
    "Blind evaluation": "Compare the policies",
    "Checks": "Show the checks",
}
GUIDE = "# How to rank\n\nBe *fair*.\n\n```python\nprint(1)\n```\n\n[more](https://example.org)"


@pytest.fixture(scope="module")
def server(server: Labeler) -> Labeler:
    study = server.store.studies.default()
    server.store.studies.set_guideline(study, GUIDE)
    plan = {"own_prompts": True, "content_warnings": {"violence": "Violence in words"}}
    server.store.studies.edit(study, plan=plan)
    add_checks(server.store, study)
    add_duel(server.store, study, [1, 1, 0.5, 0] * 5, ("pid-secret-ppo", "pid-secret-sft"))
    show_training(server.store, server.db.parent / "runs")
    return server


def violations(page: Page) -> list[Any]:
    """What axe finds on the page as it is."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return list(page.evaluate(RUN, RULES))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "ar"])
def test_no_violation_on_any_page_or_dialog(
    sit: Callable[..., Seat], server: Labeler, scheme: str, language: str
) -> None:
    seat = sit(color_scheme=scheme, locale=language)
    page = seat.page
    found = {}
    seat.press("1")
    found["board"] = violations(page)
    for name, (opener, shown) in SHOWN.items():
        page.click(opener)
        page.wait_for_selector(shown)
        found[name] = violations(page)
        seat.press("Escape")
    for index in range(4):
        page.click(".rb-menu > button")
        page.locator(".rb-menu-list button").nth(index).click()
        page.wait_for_selector("dialog[open]")
        found[f"menu {index}"] = violations(page)
        seat.press("Escape")
    seat.press("Alt+KeyS")
    found["skip"] = violations(page)
    seat.press("Escape")
    seat.press("Alt+KeyX", "Alt+KeyR")
    found["raw, same height"] = violations(page)
    for address, shown in {"/app/": ".rb-days", "/app/history": ".rb-history-state"}.items():
        page.goto(server.url + address)
        page.wait_for_selector(shown, state="attached")
        found[address] = violations(page)
    seat.context.clear_cookies()
    page.goto(server.url + "/login")
    found["login"] = violations(page)
    assert {name: rules for name, rules in found.items() if rules} == {}


def test_no_violation_on_consent_warning_and_administration(browser: Browser, tmp_path: Path) -> None:
    with labeler(tmp_path) as made:
        study = made.store.studies.default()
        made.store.studies.set_consent(study, "# Consent\n\nWe keep **what** you rank.")
        made.store.studies.edit(study, plan={"content_warnings": {"violence": "Violence in words"}})
        add_urgent(made.store)
        seat = Seat(browser, made, "carla", wait=".rb-consent")
        found = {"consent": violations(seat.page)}
        seat.page.click(".rb-consent .rb-button")
        seat.page.wait_for_selector("dialog[open]")
        found["warning"] = violations(seat.page)
        with made.store.write() as db:
            db.execute("UPDATE annotators SET role = 'admin' WHERE name = 'carla'")
        seat.page.goto(made.url + "/ops/")
        seat.page.wait_for_selector("td", state="attached")
        found["administration"] = violations(seat.page)
        assert {name: rules for name, rules in found.items() if rules} == {}
        seat.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_no_violation_on_the_pages_of_owners_and_of_guests(
    browser: Browser, server: Labeler, scheme: str, size: tuple[int, int]
) -> None:
    name = f"owner {scheme} {size[0]}"
    seat = Seat(browser, server, name, color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
    page, store = seat.page, server.store
    store.remarks.add(seat.account, store.studies.default(), "Why?", f"nonce {name}")
    with store.write() as db:
        db.execute("UPDATE annotators SET role = 'admin' WHERE id = ?", [seat.account.id])
    found = dict(owner_pages(page, server.url))
    seat.context.clear_cookies()
    ((_, link),) = invite(store, f"guest {scheme} {size[0]}", "annotator", 7, [], server.url)
    found |= dict(guest_pages(page, server.url, link))
    assert {address: rules for address, rules in found.items() if rules} == {}
    seat.context.close()


def owner_pages(page: Page, url: str) -> Iterator[tuple[str, list[Any]]]:
    """The Studies page with each of its tabs, Training, Lineage and administration, none wider than the window."""
    page.goto(f"{url}/study/")
    for tab in ("What is asked", "People", "Rankings", "Quality", "Blind evaluation", "Checks", "Messages"):
        open_tab(page, tab)
        if tab in COMPUTED:
            page.get_by_role("button", name=COMPUTED[tab]).click()
        page.get_by_text(OF_TAB[tab], exact=True).filter(visible=True).first.wait_for()
        yield tab, violations(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    page.goto(f"{url}/study/training")
    page.get_by_role("button", name="Blind evaluation", exact=True).click()
    page.get_by_role("group", name="also").get_by_label("ppo-1@4 (ppo)").check()
    page.locator("#tr-study").select_option(label="trained")
    page.locator("#tr-policy").select_option(label="ppo-1 (ppo)")
    page.get_by_role("button", name="How it fares blind").click()
    page.get_by_text("However often one looks").wait_for()
    yield "training, a blind evaluation", violations(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a blind evaluation"
    for run in ("ppo-2", "ppo"):  # the run that is under way, and the plan
        page.get_by_role("link", name=run, exact=True).click()
        page.wait_for_selector(".tr-plot" if run == "ppo-2" else ".tr-plan")
        page.locator("summary").evaluate_all("nodes => nodes.forEach(node => { node.parentNode.open = true; })")
        yield f"training, {run}", violations(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), run
    page.goto(f"{url}/study/lineage")
    page.get_by_text("ppo-1", exact=True).click()
    page.wait_for_selector(".li-detail h2")
    yield "lineage", violations(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "lineage"
    page.goto(f"{url}/ops/")
    page.wait_for_selector("td", state="attached")
    yield "administration", violations(page)


def guest_pages(page: Page, url: str, link: str) -> Iterator[tuple[str, list[Any]]]:
    """Login and invitation, each also after a mistake, and an invitation that is over."""
    page.goto(f"{url}/login")
    yield "login", violations(page)
    page.fill("#name", "nobody")
    page.fill("#password", "nothing at all")
    page.click("button")
    page.wait_for_selector(".bad")
    yield "login, wrong", violations(page)
    page.goto(link)
    yield "join", violations(page)
    page.fill("#password", "one password")
    page.fill("#again", "another password")
    page.click("button")
    page.wait_for_selector(".bad")
    yield "join, wrong", violations(page)
    page.goto(f"{link}x")
    yield "join, over", violations(page)


def test_everything_is_reached_with_tab_in_the_order_of_the_page(sit: Callable[..., Seat]) -> None:
    seat = sit()
    seat.page.focus(".rh-name")
    tops, names = [], []
    for _ in range(60):
        seat.press("Tab")
        where = seat.page.evaluate(
            """() => { const node = document.activeElement; if (node === document.body) return null;
            const style = getComputedStyle(node), box = node.getBoundingClientRect();
            return [node.textContent.slice(0, 20), box.top + scrollY, style.outlineStyle !== 'none'
              || node.closest('.rb-card:focus-within') !== null || node.matches('.rb-card, .rb-card *')]; }"""
        )
        if where is None:
            break
        names.append(where[0])
        tops.append(where[1])
        assert where[2], f"no visible focus on {where[0]!r}"
    for wanted in ("Annotate", "Log out", "Guidelines", "Compare", "More", "Undo", "Skip…"):
        assert wanted in "|".join(names), wanted
    head = [name for name in names if name in ("Annotate", "Guidelines", "Undo")]
    assert head == ["Annotate", "Guidelines", "Undo"]


def test_targets_are_large_enough_for_a_finger(sit: Callable[..., Seat]) -> None:
    seat = sit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = seat.page
    page.click(".rb-menu > button")
    small = """nodes => nodes.filter(node => node.checkVisibility() && !node.closest('p, li')).map(node =>
      [node.textContent, node.getBoundingClientRect()]).filter(([, box]) => box.width < 44 || box.height < 44)
      .map(([text, box]) => `${text} ${box.width} x ${box.height}`)"""
    assert page.locator("button, a, summary, select").evaluate_all(small) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    menu = page.locator(".rb-menu-list").bounding_box()
    assert menu and menu["x"] >= 0 and menu["x"] + menu["width"] <= 390


def test_nothing_moves_for_those_who_want_no_motion(sit: Callable[..., Seat]) -> None:
    seat = sit(reduced_motion="reduce")
    moving = """nodes => nodes.filter(node => { const style = getComputedStyle(node);
      return style.transitionDuration !== '0s' || style.animationName !== 'none'; }).map(node => node.className)"""
    assert seat.page.locator(".rb, .rb *, .rh, .rh *").evaluate_all(moving) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_is_drawn_without_a_key_or_english_left_over(sit: Callable[..., Seat], language: str) -> None:
    """On a phone, the smallest page: nothing is wider than it."""
    seat = sit(settings={"language": language}, locale="en", viewport={"width": 390, "height": 844})
    page = seat.page
    assert page.evaluate(
        "[document.documentElement.lang, getComputedStyle(document.querySelector('.rb')).direction]"
    ) == [
        language,
        "rtl" if language == "ar" else "ltr",
    ]
    text = page.inner_text("body")
    for key in ("nav.history", "board.title", "tools.more", "diff.open", "board.undo"):
        assert strings(language)[key] in text, key
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    if language == "ar":
        seat.press("ArrowLeft")  # what is to the left of the first card comes after it
        assert seat.focus() in ("A", "B")
