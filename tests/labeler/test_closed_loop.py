"""The whole loop in a browser, on a tiny model: rank, reward, PPO, compare blind, promote, and on with the new policy."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, expect

from preferences.store import Store
from tests.conftest import PLAIN, ROOT
from tests.labeler.browser import PATIENCE_MS, Labeler, Seat, open_tab
from tests.labeler.conftest import PASSWORD, add_account
from tests.tiny import DATA, save_tiny_llama
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
RANKED = 4
PROMPTS, HELDOUT = 12, 4


class Loop:
    """A labeler and a worker on one database, both processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.labeler, self.runs = Labeler(folder), folder / "runs"
        self.model, self.log = save_tiny_llama(folder / "llama"), folder / "worker.log"
        self.store: Store = self.labeler.store
        study = self.store.studies.create("main", k=4, plan=PLAIN)
        lines = (DATA / "round_prompts.jsonl").read_text().splitlines()[: PROMPTS + HELDOUT]
        asked = [{"messages": json.loads(line)["messages"]} for line in lines]
        for part, share in ((asked[:PROMPTS], 0.0), (asked[PROMPTS:], 1.0)):
            self.store.studies.add_prompts(study, self.store.prompts.add(part, heldout=share))
        self.demonstrations, self.written = folder / "demonstrations.jsonl", folder / "written.jsonl"
        for file, part in ((self.demonstrations, asked[:PROMPTS]), (self.written, asked[PROMPTS:])):
            talks = [[*one["messages"], {"role": "assistant", "content": "By hand."}] for one in part]
            file.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
        self.labeler.start()
        self.worker = self.start_worker()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """`trainer worker` on the tiny model."""
        command = [
            sys.executable, "-m", "trainer", "worker", "--db", self.labeler.db, "--model", self.model, "--quantize", "none",
            "--runs", self.runs, "--max-new-tokens", "6", "--temperature", "1.0", "--waiting", "4", "--poll", "0.2",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def stop_worker(self) -> None:
        self.worker.send_signal(signal.SIGTERM)
        self.worker.wait(120)


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setenv("RANKLOOP_CACHE", str(tmp_path))  # a device lock of its own
    made = Loop(tmp_path)
    yield made
    made.stop_worker()
    made.labeler.stop()
    made.store.close()


def rank_one(seat: Seat) -> None:
    """Rank the comparison in hand, the second answer first: the board asks whether the order that it showed is meant.

    The next one may ask about the same prompt.
    """
    done = len(seat.server.rankings(seat.account))
    fresh = seat.page.locator(".rb-echo").filter(has_not_text=">")
    expect(fresh).to_have_count(1)
    seat.page.locator(".rb-card .rb-rank").first.focus()
    seat.press("2", "1", *(str(rank) for rank in range(3, seat.count + 1)), "Control+Enter")
    until(lambda: len(seat.server.rankings(seat.account)) > done, PATIENCE_MS / 1000)


def launch(page: Page, stage: str, run: str, also: Sequence[str] = (), **values: str) -> None:
    """Fill in the form of a stage and launch it. `also`: what is ticked."""
    page.get_by_role("button", name=stage, exact=True).click()
    for label, value in values.items():
        field = page.get_by_label(label.replace("_", " "), exact=True).first
        if field.evaluate("node => node.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)
    for policy in also:
        page.get_by_role("group", name="also").get_by_label(policy, exact=True).check()
    if run:
        page.get_by_label("name of the run").fill(run)
    page.get_by_role("button", name="Launch").click()
    expect(page.locator(".tr-said")).to_have_text(f"{run or stage} is in the queue.")


def test_the_loop_is_driven_from_the_browser(loop: Loop, browser: Browser) -> None:
    store, study = loop.store, loop.store.studies.get("main")

    # 1. The worker samples from the base, and somebody ranks.
    ann = Seat(browser, loop.labeler, "ann", wait=".rb-card")
    for _ in range(RANKED):
        rank_one(ann)

    # 2. A researcher trains a reward model and a policy, which answers nothing until somebody promotes it.
    page = researcher(loop, browser)
    train(loop, page)
    new = store.policies.get("my-ppo")
    assert store.studies.sampling_policies(study) != [new] and not store.responses.of_policy(new.id)

    # 3. Its answers are queued among those of its checkpoint, of the SFT policy and of people, ranked by somebody who is not
    # told, and the win rates are seen.
    compare_blind(loop, page, ann)

    # 4. It is promoted; then the next comparison is its, and the page does not say so.
    page.get_by_label("policy", exact=True).select_option(label="my-ppo (ppo)")
    page.get_by_role("button", name="How it fares blind").click()
    expect(page.get_by_text("Whether my-ppo is better than my-sft is open")).to_be_visible()
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("Now answers: my-ppo.")).to_be_visible()
    until(lambda: store.promotions.fresh(study, 4) == 4, PATIENCE_MS / 1000)
    bea = Seat(browser, loop.labeler, "bea", wait=".rb-card")
    first = store.queue.all_held(bea.account)[0]
    assert {response.policy for response in store.responses.get_many(first.order).values()} == {new.id}
    html = bea.page.content()
    assert new.id not in html and "my-ppo" not in html
    rank_one(bea)
    assert bea.errors == bea.outside == []

    # 5. Rankings of the old policy stay, and the lineage says what made the new one.
    assert len([one for one in store.rankings.current() if one.annotator == ann.account.id]) >= RANKED + HELDOUT
    look_at_lineage(loop, page)
    for context in (ann.context, bea.context, page.context):
        context.close()


def researcher(loop: Loop, browser: Browser) -> Page:
    """The Training page, for a researcher."""
    add_account(loop.store, "rita", "researcher")
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.context.set_default_timeout(PATIENCE_MS)
    page.context.request.post(f"{loop.labeler.url}/login", data={"name": "rita", "password": PASSWORD})
    page.goto(f"{loop.labeler.url}/study/training")
    expect(page.locator(".tr-worker")).to_contain_text("The worker is running")
    return page


def train(loop: Loop, page: Page) -> None:
    """A reward model, and PPO on it; the plots move, and labeler and worker begin anew while it trains."""
    launch(page, "Fine-tune (SFT)", "my-sft", demonstrations=str(loop.demonstrations), epochs="1")
    expect(page.locator(".tr-job h2")).to_contain_text("done")
    launch(page, "Reward model", "my-reward", epochs="2")
    coming, start = "my-reward (once it is trained)", "my-sft (sft)"
    launch(page, "PPO", "my-ppo", reward=coming, start=start, iterations="30", episodes="8", max_new_tokens="6")
    score = page.locator("figure[data-title=Score]")
    expect(score).to_be_visible()
    first = int(score.get_attribute("data-steps") or 0)
    loop.labeler.stop()
    loop.labeler.start()
    page.wait_for_function(f"Number(document.querySelector('figure[data-title=Score]').dataset.steps) > {first}")
    loop.stop_worker()
    assert {job.status for job in loop.store.jobs.all()} <= {"queued", "done"}
    loop.worker = loop.start_worker()
    expect(page.locator(".tr-job h2")).to_contain_text("done")
    expect(score).to_have_attribute("data-steps", "30")
    assert {job.status for job in loop.store.jobs.all()} == {"done"}
    page.get_by_role("link", name="my-reward").click()
    expect(page.locator("figure[data-title=Accuracy]")).to_be_visible()


def compare_blind(loop: Loop, page: Page, ann: Seat) -> None:
    """Launched on the Training page, ranked on the board, seen on the page of studies."""
    store, study = loop.store, loop.store.studies.get("main")
    page.goto(f"{loop.labeler.url}/study/training")
    also, written = ["my-ppo@15 (ppo)"], str(loop.written)
    launch(page, "Blind evaluation", "", also, adapter="my-ppo (ppo)", human=written, max_new_tokens="6")
    expect(page.locator(".tr-job h2")).to_contain_text("done")
    expect(page.locator(".tr-facts")).to_contain_text("Queued for people")
    found = [one for one in store.comparisons.all(study.id) if one.origin == "blind"]
    assert {one.prompt for one in found} == {prompt.id for prompt in store.prompts.all("heldout")}
    names = {policy.id: policy.name for policy in store.policies.all()}
    mixed = [{names[one.policy] for one in store.responses.get_many(comparison.same).values()} for comparison in found]
    assert mixed == [{"my-sft", "my-ppo", "my-ppo@15", "human"}] * HELDOUT
    blind = {one.id for one in found}
    while waiting := blind - {one.comparison for one in store.rankings.current(study.id)}:
        if store.queue.all_held(ann.account)[0].comparison in waiting:
            html = ann.page.content()
            assert not [ident for ident in names if ident in html] and not re.search("my-(ppo|sft)", html)
        rank_one(ann)
    page.goto(f"{loop.labeler.url}/study/")
    expect(page.get_by_label("Study", exact=True)).to_have_value("main")
    open_tab(page, "Blind evaluation")
    page.get_by_role("button", name="Compare the policies").click()
    said = page.get_by_label("What people say")
    for policy in ("my-ppo", "my-ppo@15", "human"):
        expect(said).to_have_value(re.compile(f"Whether {policy} is better than my-sft is open"))
        row = page.get_by_role("row").filter(has_text=policy).filter(visible=True).first
        expect(row).to_contain_text(re.compile(r"[01]\.\d+"))
    page.goto(f"{loop.labeler.url}/study/training")


def look_at_lineage(loop: Loop, page: Page) -> None:
    """What made the policy, and the run folder of its reward model."""
    page.goto(f"{loop.labeler.url}/study/lineage")
    page.get_by_text("my-ppo", exact=True).click()  # beside it are those of its checkpoints
    expect(page.locator(".li-detail")).to_contain_text("Reward model my-reward")
    page.get_by_role("button", name="my-reward").click()
    expect(page.locator(".li-detail")).to_contain_text(f"{RANKED} rankings")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the run").click()
    assert download.value.suggested_filename == "my-reward.zip"
