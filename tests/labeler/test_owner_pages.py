"""The owners' pages in a real browser: a new study, an invited person's first ranking, a message, a run, a promotion."""

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect

from tests.labeler.browser import Labeler
from tests.labeler.conftest import PASSWORD, add_account, add_comparison
from tests.labeler.trained import begin, publish
from tests.preferences.test_promotions import policy_at

pytestmark = [pytest.mark.browser]
HOSTILE = "<img src=x onerror=window.__xss=1> **B** is wrong: `${window.__xss=1}`"


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """The page at an address of the labeler in a browser of its own; at the end nothing has failed in any."""
    pages, errors = [], []

    def open_page(address: str) -> Page:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.__xss") is None
        page.context.close()
    assert errors == []


@pytest.fixture
def owner(visit: Callable[[str], Page], server: Labeler, request: pytest.FixtureRequest) -> Page:
    """A researcher at the Studies page."""
    name = f"owner of {request.node.name}"
    add_account(server.store, name, "researcher")
    page = visit(f"{server.url}/login?next=/study/")
    page.fill("#name", name)
    page.fill("#password", PASSWORD)
    page.click("button")
    expect(page.get_by_label("Study", exact=True)).to_have_value("main")
    return page


def choose(page: Page, label: str, option: str) -> None:
    """One of a Gradio dropdown."""
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_a_study_is_made_and_people_are_invited_join_and_rank(
    owner: Page, visit: Callable[[str], Page], server: Labeler
) -> None:
    store, said = server.store, owner.get_by_label("What happened")
    choose(owner, "Study", "A new study")
    owner.get_by_label("Name of a new study").fill("poems")
    owner.get_by_label("Plan").fill("labels_train=3\nrepeats=0.0")
    owner.get_by_label("Guidelines (Markdown)").fill("# Rhymes first")
    owner.get_by_label("Prompts to add").fill("A poem about rain.\nA poem about snow.")
    owner.get_by_role("button", name="Save").click()
    expect(said).to_have_value("Study poems is saved, with 2 new prompts.")
    poems = store.studies.get("poems")
    assert store.studies.count_prompts(poems)[0] == 2
    asked = add_comparison(store, poems, "A poem about rain.", ["It pours.", "Drip, drop."], priority=9)

    choose(owner, "Study", "main")  # the older study would come first
    owner.get_by_role("button", name="Pause").click()
    expect(said).to_have_value("Study main is paused.")
    expect(
        owner.get_by_role("gridcell", name="paused")
    ).to_be_visible()  # else what is still drawn undoes the next choice
    choose(owner, "Study", "poems")
    expect(owner.get_by_label("Guidelines (Markdown)")).to_have_value("# Rhymes first")

    owner.get_by_role("tab", name="People").click()
    owner.get_by_label("Names to invite").fill("ines\njoão")
    owner.get_by_role("button", name="Make links").click()
    expect(said).to_have_value("2 people are invited.")
    links = dict(line.split("\t") for line in owner.get_by_label("Links, each good once").input_value().splitlines())
    assert list(links) == ["ines", "joão"]

    guest = visit(links["joão"])
    guest.fill("#password", "a password of mine")
    guest.fill("#again", "a password of mine")
    guest.click("button")
    expect(guest.locator("dialog[open]")).to_contain_text("1 of 3")
    guest.keyboard.press("Escape")
    expect(guest.locator(".rb-turns")).to_contain_text("A poem about rain.")
    for digit in ("1", "2"):
        guest.keyboard.press(digit)
    guest.keyboard.press("Control+Enter")
    expect(guest.locator(".rb-state")).to_contain_text("Saved")
    (ranking,) = store.rankings.history(store.annotators.get("joão"))
    assert ranking.comparison == asked.id


def test_messages_are_read_as_text_and_marked_as_done(owner: Page, server: Labeler) -> None:
    store = server.store
    asked = add_comparison(store, store.studies.get("main"), "A poem about wind.", ["It blows.", "Whoosh."])
    ann, order = add_account(store, "writing ann"), asked.items[::-1]
    store.queue.lease(asked.id, ann, order, 60)
    store.remarks.add(ann, store.studies.get("main"), HOSTILE, "nonce-of-it", asked.id)

    owner.get_by_role("tab", name="Messages").click()
    expect(owner.get_by_role("gridcell", name=HOSTILE)).to_be_visible()
    choose(owner, "Message", "writing ann")
    whole = owner.get_by_label("The message, and the comparison")
    texts = store.responses.get_many(order)
    shown = [f"Response {letter}:\n{texts[item].text}" for letter, item in zip("AB", order, strict=True)]
    about = [HOSTILE, f"About comparison {asked.id}:", "User:\nA poem about wind.", *shown]
    expect(whole).to_have_value("\n\n".join(about))
    owner.get_by_role("button", name="Done", exact=True).click()
    expect(owner.get_by_role("gridcell", name="202")).to_have_count(2)  # when it was written, and since when it is done
    assert store.remarks.all()[0].done
    owner.get_by_role("button", name="Not done after all").click()
    expect(owner.get_by_role("gridcell", name="202")).to_have_count(1)
    assert store.remarks.all()[0].done is None


def test_a_run_is_launched_and_watched_while_the_server_begins_anew(owner: Page, server: Labeler) -> None:
    """The worker's part is played here: what it publishes and what a run logs."""
    store, runs = server.store, server.db.parent / "runs"
    publish(store, runs)
    owner.get_by_role("link", name="Training").click()
    owner.get_by_role("button", name="PPO", exact=True).click()
    owner.get_by_label("iterations").fill("9")
    owner.get_by_text("More options").click()
    owner.get_by_label("kl target").fill("6.5")
    owner.reload()
    expect(owner.get_by_label("kl target")).to_have_value("6.5")  # what was typed is kept
    owner.get_by_label("checkpointing").check()
    owner.get_by_role("button", name="Launch").click()
    expect(owner.locator(".tr-said")).to_have_text("ppo-1 is in the queue.")
    job = store.jobs.claim("box:1", 60)
    assert job is not None and (job.kind, job.spec["out"]) == ("ppo", str(runs / "ppo-1"))
    assert (job.spec["iterations"], job.spec["kl_target"], job.spec["checkpointing"]) == (9, 6.5, True)

    begin(store, job, runs / "ppo-1", 3, of=9)
    score = owner.locator("figure[data-title=Score]")
    expect(score).to_have_attribute("data-steps", "3")
    server.stop()
    begin(store, job, runs / "ppo-1", 7, of=9)
    expect(owner.locator(".tr-said")).to_contain_text("does not answer")
    server.start()
    expect(score).to_have_attribute("data-steps", "7")
    expect(owner.locator(".tr-said")).to_have_text("")
    expect(owner.locator(".tr-progress").first).to_contain_text("7 of 9, about 6 s to go")
    expect(owner.locator(".tr-samples")).to_contain_text("Because of <b>5</b>.")  # as text
    expect(owner.locator(".tr-job pre").last).to_contain_text("ppo 7/9")

    owner.get_by_role("button", name="Stop ppo-1").click()
    expect(owner.locator(".tr-state").first).to_have_text("stopped")
    owner.get_by_role("button", name="Resume ppo-1").click()
    expect(owner.locator(".tr-state").first).to_have_text("waiting")
    assert store.jobs.get(job.id).status == "queued"


def test_checkpoints_and_what_people_wrote_are_chosen_for_a_blind_evaluation(
    owner: Page, server: Labeler, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, folder = server.store, tmp_path_factory.mktemp("mixed")
    publish(store, server.db.parent / "runs")
    sft = policy_at(store, "mixed-sft", folder, "sft", "tiny")
    last, four, eight = (
        policy_at(store, name, folder, base="tiny", parent=sft.id) for name in ("mixed", "mixed@4", "mixed@8")
    )
    owner.get_by_role("link", name="Training").click()
    owner.get_by_role("button", name="Blind evaluation", exact=True).click()
    owner.get_by_label("adapter", exact=True).select_option(label="mixed (ppo)")
    several = owner.get_by_role("group", name="also")
    for policy in (four, eight, sft):
        several.get_by_label(f"{policy.name} ({policy.kind})", exact=True).check()
    owner.get_by_label("human", exact=True).fill("data/demonstrations.jsonl")
    several.get_by_label("mixed-sft (sft)", exact=True).uncheck()
    owner.reload()
    ticked = several.get_by_label("mixed@8 (ppo)")
    expect(ticked).to_be_checked()  # what was chosen is kept
    assert (
        ticked.evaluate("node => getComputedStyle(node).appearance") == "auto"
    )  # Gradio's looks hide whether it is ticked
    owner.get_by_role("button", name="Launch").click()
    expect(owner.locator(".tr-said")).to_have_text("Blind evaluation is in the queue.")
    (job,) = (job for job in store.jobs.all() if job.kind == "evaluate")
    assert job.spec == {
        "study": None, "queue": True, "adapter": last.adapter, "also": ["mixed@4", "mixed@8"],
        "human": "data/demonstrations.jsonl",
    }  # fmt: skip
    expect(owner.locator(".tr-job")).to_contain_text("mixed@4, mixed@8")
    store.jobs.stop(job, "")


def test_a_policy_is_promoted_and_rolled_back_on_the_training_page(
    owner: Page, server: Labeler, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = server.store
    study = store.studies.create("promoted")
    old, new = (policy_at(store, name, tmp_path_factory.mktemp("at"), base="tiny") for name in ("old-one", "new-one"))
    publish(store, server.db.parent / "runs")
    store.promotions.promote(study, old, "")
    owner.get_by_role("link", name="Training").click()
    owner.locator("#tr-study").select_option("promoted")
    expect(owner.get_by_text("Now answers: old-one.")).to_be_visible()
    owner.get_by_label("policy").select_option(label="policy-secret-sft (sft)")
    expect(owner.get_by_role("button", name="Promote")).to_be_disabled()
    expect(owner.locator("#tr-refusal")).to_contain_text("belongs to")
    owner.get_by_label("policy").select_option(label="new-one (ppo)")
    owner.get_by_role("button", name="How it fares blind").click()
    expect(owner.get_by_text("new-one is what other policies are held against.")).to_be_visible()
    owner.get_by_label("why (kept in the log)").fill("It wins 61%.")
    owner.get_by_role("button", name="Promote").click()
    expect(owner.get_by_text("Now answers: new-one.")).to_be_visible()
    assert store.studies.sampling_policies(study) == [new]
    owner.get_by_role("button", name="Roll back to old-one").click()
    expect(owner.get_by_text("Now answers: old-one.")).to_be_visible()
    who = store.annotators.get(f"owner of {test_a_policy_is_promoted_and_rolled_back_on_the_training_page.__name__}")
    assert [(event.kind, event.actor) for event in store.promotions.history(study)[1:]] == [
        ("policy promoted", who.id), ("policy rolled back", who.id),
    ]  # fmt: skip
