"""Pictures of every page and dialog of the labeler, on a database made for them: scripts/screenshots [FOLDER] [--docs]."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from labeler.care import invite
from preferences.records import Response, Study
from preferences.store import Store
from tests.labeler.browser import Labeler, Seat, labeler, launch, open_tab
from tests.labeler.trained import show_training
from tests.preferences.make import add_checks, add_duel

SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
COMPUTED = {
    "Quality": ("Compute the statistics", "Pairwise agreement"),
    "Blind evaluation": ("Compare the policies", "However often one looks"),
    "Checks": ("Show the checks", "longest"),
}
# Those that docs/pages.md shows; where nothing else is said, as on a desktop, in the light.
SHOWN = (
    "board-ranked", "board-arabic", "history", "dashboard", "consent", "login", "study", "study-people", "study-rankings",
    "study-quality", "study-blind-evaluation", "study-checks", "study-messages", "training-new", "training-evaluate",
    "training-ppo-2", "training-ppo", "training-ppo-1", "training-answers", "lineage", "administration",
    "board-six-phone-light", "training-ppo-2-desktop-dark", "training-ppo-2-phone-light", "lineage-phone-dark",
)  # fmt: skip
WIDTH, COLOURS = 900, 256  # of the pictures in docs/
GUIDE = """# How to rank

Read the prompt twice, then **every** answer to its end.

1. An answer that is *true* comes before one that only sounds good.
2. Of two true ones the more helpful comes first; length is no merit.
3. Give two the same rank if you would not mind which one you get.

> Refusing is right where help would hurt somebody, and wrong anywhere else.
"""
CONSENT = "We keep **what you rank** and how long it takes, under a number instead of your name, for ten years."
ANSWERS = [
    "Dew is water from the air. At night the ground cools; cool air holds **less** water, and the rest settles on the grass.",
    "It rains a little every night, only you are asleep.",
    "At night the grass cools below the *dew point* $T_d$, so vapour condenses:\n\n$$T_d \\approx T - \\frac{100 - RH}{5}$$",
    "```python\ndef dew_point(t, rh):\n    return t - (100 - rh) / 5\n```\n\n| air | dew |\n|-|-|\n| 20 °C, 80% | 16 °C |",
    "لأن العشب يبرد ليلًا فيتكاثف عليه بخار الماء.",
    "Because plants sweat at night, like people do after a run.",
]
MESSAGES = [
    {"role": "system", "content": "Answer for a child of ten. At most three sentences."},
    {"role": "user", "content": "Why is the grass wet in the morning although it has not rained?"},
]


def main(folder: Path) -> None:
    """Every state, in each size and scheme."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with (
        tempfile.TemporaryDirectory() as temporary,
        sync_playwright() as playwright,
        labeler(Path(temporary)) as server,
    ):
        fill(server.store, server.store.studies.default())
        show_training(server.store, Path(temporary) / "runs")
        browser = launch(playwright)
        for size, options in SIZES.items():
            for scheme in ("light", "dark"):
                for name, page in pages(browser, server, f"{size}-{scheme}", {**options, "color_scheme": scheme}):
                    page.screenshot(path=folder / f"{name}-{size}-{scheme}.png")
                    count += 1
        browser.close()
    print(f"{count} pictures in {folder}.")


def show(folder: Path, target: Path) -> None:
    """The pictures of docs/pages.md out of the others, smaller and with few colours."""
    target.mkdir(parents=True, exist_ok=True)
    for name in SHOWN:
        path = folder / f"{name}.png"
        with Image.open(path if path.is_file() else folder / f"{name}-desktop-light.png") as picture:
            narrow = picture.convert("RGB")
        narrow.thumbnail((WIDTH, picture.height))
        narrow.quantize(COLOURS, dither=Image.Dither.NONE).save(target / f"{name}.png", optimize=True)


def fill(store: Store, study: Study) -> None:
    """A study with everything that can be seen."""
    store.studies.set_guideline(study, GUIDE)
    store.studies.edit(study, plan={"own_prompts": True, "content_warnings": {"violence": "Violence in words"}})
    (prompt,) = store.prompts.add([{"messages": MESSAGES}], heldout=0.0)
    for count, priority in ((4, 9.0), (6, 8.0)):
        responses = [
            Response.make(prompt.id, "pid-secret-sft", text, count, i) for i, text in enumerate(ANSWERS[:count])
        ]
        store.responses.add(responses)
        store.comparisons.add(study, prompt.id, responses, priority=priority)
    (battle,) = store.prompts.add(
        [{"messages": [{"role": "user", "content": "Tell of a battle."}], "tags": ["violence"]}], heldout=0.0
    )
    responses = [Response.make(battle.id, "pid-secret-sft", text, 0, i) for i, text in enumerate(ANSWERS[:2])]
    store.responses.add(responses)
    store.comparisons.add(study, battle.id, responses, priority=7.0)
    add_checks(store, study)
    add_duel(store, study, [1, 1, 0.5, 1, 0, 1, 0, 1] * 6, ("pid-secret-ppo", "pid-secret-sft"), lengths=(6, 5))


def pages(browser: Browser, server: Labeler, who: str, options: dict[str, Any]) -> Iterator[tuple[str, Page]]:
    """(name, page) of each state, one after the other."""
    seat = Seat(browser, server, who, **options)
    page = seat.page
    yield "board", page
    seat.press("2", "1", "2", "3")
    seat.wait_draft()
    yield "board-ranked", page
    yield from dialogs(seat)
    seat.press("Alt+KeyX")
    yield "board-same-height", page
    seat.press("Alt+KeyX")
    rank(seat)
    yield "board-six", page
    rank(seat, 6)
    page.wait_for_selector("dialog[open]")
    yield "warning", page
    page.goto(f"{server.url}/app/history")
    page.wait_for_selector(".rb-answer")
    yield "history", page
    page.goto(f"{server.url}/app/")
    page.wait_for_selector(".rb-days")
    yield "dashboard", page
    with server.store.write() as db:
        db.execute("UPDATE annotators SET role = 'admin' WHERE id = ?", [seat.account.id])
    page.goto(f"{server.url}/ops/")
    page.wait_for_selector("td", state="attached")
    yield "administration", page
    yield from study_tabs(page, server)
    yield from training(page, server)
    seat.context.clear_cookies()
    page.goto(f"{server.url}/login")
    yield "login", page
    ((_, link),) = invite(server.store, f"{who}-invited", "annotator", 7, [], server.url)
    page.goto(link)
    yield "join", page
    page.goto(f"{link}x")
    yield "join-over", page
    seat.context.close()
    yield from others(browser, server, who, options)


def study_tabs(page: Page, server: Labeler) -> Iterator[tuple[str, Page]]:
    """The Studies page and its tabs."""
    page.goto(f"{server.url}/study/")
    page.wait_for_selector("td", state="attached")
    yield "study", page
    for tab in ("People", "Rankings", "Quality", "Blind evaluation", "Checks", "Messages"):
        open_tab(page, tab)
        page.wait_for_timeout(500)
        if tab in COMPUTED:
            button, shown = COMPUTED[tab]
            page.get_by_role("button", name=button).click()
            page.get_by_text(shown, exact=True).filter(visible=True).first.wait_for()
            page.wait_for_timeout(500)  # plots are drawn after the tables
            page.get_by_role("button", name=button).evaluate("node => node.scrollIntoView()")
        yield f"study-{tab.lower().replace(' ', '-')}", page


def training(page: Page, server: Labeler) -> Iterator[tuple[str, Page]]:
    """The Training and Lineage pages."""
    server.store.workers.see("box:1")
    page.goto(f"{server.url}/study/training")
    page.wait_for_selector(".tr-fields")
    yield "training-new", page
    page.get_by_role("button", name="Blind evaluation", exact=True).click()
    for checkpoint in ("ppo-1@4 (ppo)", "ppo-1@8 (ppo)"):
        page.get_by_role("group", name="also").get_by_label(checkpoint).check()
    yield "training-evaluate", page
    for run, shown in (("ppo-2", ".tr-plot"), ("ppo", ".tr-plan"), ("ppo-1", ".tr-facts")):
        page.get_by_role("link", name=run, exact=True).click()
        page.wait_for_selector(shown)
        page.locator(".tr-job").evaluate("node => node.scrollIntoView()")
        yield f"training-{run}", page
    page.locator("#tr-study").select_option(label="trained")
    page.locator("#tr-policy").select_option(label="ppo-1 (ppo)")
    page.get_by_role("button", name="How it fares blind").click()
    page.get_by_text("However often one looks").wait_for()
    page.locator("h2", has_text="Who answers").evaluate("node => node.scrollIntoView()")
    yield "training-answers", page
    page.goto(f"{server.url}/study/lineage")
    page.get_by_text("ppo-1", exact=True).click()
    page.wait_for_selector(".li-detail h2")
    yield "lineage", page


def dialogs(seat: Seat) -> Iterator[tuple[str, Page]]:
    """Everything that opens over or beside the board."""
    page = seat.page
    for name, key in {"skip": "Alt+KeyS", "keys": "Alt+KeyH", "compare": "Alt+KeyC", "guidelines": "Alt+KeyG"}.items():
        seat.press(key)
        page.wait_for_selector("dialog[open]" if name != "guidelines" else ".rb-guide-text .rb-text")
        yield name, page
        seat.press("Escape")
    for index, name in enumerate(("message", "own-prompt", "settings", "tour")):
        page.click(".rb-menu > button")
        if not index:
            yield "menu", page
        page.locator(".rb-menu-list button").nth(index).click()
        page.wait_for_selector("dialog[open]")
        yield name, page
        seat.press("Escape")
    page.locator(".rb-card .rb-rank").first.focus()


def rank(seat: Seat, count: int = 4) -> None:
    """Rank the comparison in hand and wait for the next."""
    echo = seat.text(".rb-echo")
    if " > " not in echo:
        seat.press("2", "1", *(str(rank) for rank in range(3, count + 1)))
    prompt = seat.page.locator(".rb-card").count()
    seat.press("Control+Enter")
    seat.page.wait_for_function("count => document.querySelectorAll('.rb-card').length !== count", arg=prompt)


def others(browser: Browser, server: Labeler, who: str, options: dict[str, Any]) -> Iterator[tuple[str, Page]]:
    """The board from right to left, and what comes before the first task."""
    arabic = Seat(browser, server, f"{who}-ar", **options, locale="ar")
    yield "board-arabic", arabic.page
    arabic.context.close()
    study = server.store.studies.default()
    server.store.studies.set_consent(study, CONSENT)
    newcomer = Seat(browser, server, f"{who}-new", wait=".rb-consent", **options)
    yield "consent", newcomer.page
    newcomer.context.close()
    server.store.studies.set_consent(study, "")


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:] if word != "--docs"] or [Path("runs/screenshots")]
    main(folders[0])
    if "--docs" in sys.argv:
        show(folders[0], Path("docs/images/pages"))
