"""Import, rank in the browser, export, import into an empty database: rankings, ties, strengths and statistics are equal."""

import io
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from PIL import Image as Pillow
from playwright.sync_api import Browser, expect

from preferences import summary
from preferences.exchange.columns import ranked_sets
from preferences.exchange.views import Source
from preferences.store import Store
from tests.conftest import PLAIN
from tests.labeler.browser import Labeler, Seat
from tests.labeler.test_main import Run, run  # noqa: F401

pytestmark = [pytest.mark.browser]

MODELS = ("m1", "m2", "m3")
PLAN = {**PLAIN, "labels_train": 2, "labels_heldout": 2, "adjudicate": False, "strengths": True, "rating": True}
# Prompt -> how many responses it has, named t0, t1, ...
SETS = {
    "Why is the sky blue?": 4,
    "Name three rivers.": 3,
    "What does this mean: blorf?": 3,
    "Tell a story.": 6,
    "Which?": 2,
}
TIES, BAD, GIBBERISH, MANY, PAIR = SETS
# Annotator -> prompt -> the tiers of response numbers; None for all bad, "" for: nobody could rank it.
SAID: dict[str, dict[str, Any]] = {
    "ann": {TIES: [[1, 3], [0], [2]], BAD: None, GIBBERISH: "", MANY: [[4], [0, 1, 3, 5], [2]], PAIR: [[1], [0]]},
    "bea": {
        TIES: [[2], [1], [3], [0]], BAD: [[0], [1, 2]], GIBBERISH: [[2], [1], [0]], MANY: [[2], [0, 1, 3, 4], [5]],
        PAIR: [[0, 1]],
    },
}  # fmt: skip
STRENGTHS = {"ann": [4, 2]}  # of TIES: much, slightly
WORDS = ("negligibly", "slightly", "clearly", "much")


@pytest.fixture
def served(tmp_path: Path, run: Run) -> Iterator[Labeler]:  # noqa: F811
    """A labeler whose study was imported by the command line; one prompt shows a picture."""
    made = Labeler(tmp_path)
    made.store.studies.create("main", 6, PLAN, "best-worst")
    Pillow.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    lines = []
    for number, (prompt, k) in enumerate(SETS.items()):
        message: dict[str, Any] = {"role": "user", "content": prompt}
        if prompt == PAIR:
            message["images"] = [{"file": "red.png", "alt": "A red one"}]
        responses = [{"text": f"t{i} of {number}", "model": MODELS[(i + number) % 3]} for i in range(k)]
        lines.append(json.dumps({"prompt": [message], "responses": responses}))
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    status, *_ = run("import", tmp_path / "in.jsonl", "--format", "rankloop", "--heldout", "0", "--db", made.db)
    assert status == 0
    made.start()
    yield made
    made.stop()
    made.store.close()


def rank_all(seat: Seat, name: str) -> None:
    """Everything that is asked, as SAID has it."""
    for _ in SETS:
        prompt = seat.prompt
        key = next(key for key in SETS if key in prompt)
        numbers = [int(card.split("t", 1)[1][0]) for card in seat.page.locator(".rb-card .rb-text").all_inner_texts()]
        answer(seat, name, key, numbers)
        seat.wait_change(prompt)
    seat.page.wait_for_selector(".rb-rest")


def answer(seat: Seat, name: str, prompt: str, numbers: list[int]) -> None:
    """One comparison, whose cards show the responses of those numbers."""
    tiers, cards = SAID[name][prompt], seat.page.locator(".rb-card")
    if tiers is None:
        return seat.press("Alt+KeyB")
    if tiers == "":
        seat.page.click(".rb-skip")
        return seat.page.get_by_role("button", name="The prompt makes no sense").click()
    place = {item: rank for rank, tier in enumerate(tiers, start=1) for item in tier}
    if prompt == MANY:
        cards.nth(numbers.index(tiers[0][0])).get_by_role("radio", name="Best").click()
        cards.nth(numbers.index(tiers[2][0])).get_by_role("radio", name="Worst").click()
    else:
        for at, number in enumerate(numbers):
            cards.nth(at).locator(".rb-rank").nth(place[number] - 1).click()
    if prompt == TIES and name in STRENGTHS:
        gaps = seat.page.locator(".rb-strengths [role=radiogroup]")
        expect(gaps).to_have_count(len(STRENGTHS[name]))
        for gap, strength in enumerate(STRENGTHS[name]):
            gaps.nth(gap).get_by_text(WORDS[strength - 1]).click()
        cards.nth(numbers.index(0)).locator(".rb-rate").nth(4).click()
        seat.press("Alt+KeyE")
        reason = seat.page.get_by_label("Why this order?")
        expect(reason).to_be_focused()
        seat.page.keyboard.type("They say the same.")
        seat.press("Escape", "Alt+KeyW")
        rewrite = seat.page.locator(".rb-rewrite")
        expect(rewrite).to_be_focused()
        rewrite.fill("Better said.")
    if prompt == PAIR:
        picture = seat.page.locator(".rb-turns img")
        expect(picture).to_have_attribute("alt", "A red one")
        expect(picture).to_have_js_property("naturalWidth", 20)
    seat.page.click(".rb-submit")
    if seat.page.locator(".rb-dialog[open]").count():  # the order as shown, which is asked about
        seat.press("Enter")
    return None


def stated(store: Store) -> dict[tuple[str, str], Any]:
    """(prompt, annotator) -> everything that a ranked set says of what they said."""
    found = {}
    for record in ranked_sets(Source.of(store, store.studies.default(), None, names=True)):
        texts = [(response["model"], response["text"]) for response in record["responses"]]
        for annotation in record["annotations"]:
            annotation["ranking"] = [sorted(texts[i] for i in tier) for tier in annotation["ranking"]]
            annotation["shown"] = [texts[i] for i in annotation["shown"]]
            annotation["rewrite_of"] = None if annotation["rewrite_of"] is None else texts[annotation["rewrite_of"]]
            for name in ("flags", "ratings"):
                annotation[name] = sorted(map(str, zip(texts, annotation[name], strict=False)))
            found[json.dumps(record["prompt"]), annotation["annotator"]] = annotation
    return found


def pairs_in(store: Store) -> dict[tuple[str, int, int], list[float]]:
    """(prompt, chosen, rejected) -> strengths, of rankings of two."""
    found = {}
    for record in ranked_sets(Source.of(store, store.studies.default(), None)):
        prompt = next(prompt for prompt in SETS if prompt in record["prompt"][0]["content"])
        (annotation,) = record["annotations"]
        (chosen,), (rejected,) = annotation["ranking"]
        numbers = [int(record["responses"][i]["text"][1]) for i in (chosen, rejected)]
        found[prompt, numbers[0], numbers[1]] = annotation["strengths"]
    return found


def values(found: Any) -> Any:
    """Statistics without their intervals, whose resamples depend on the order in which prompts are stored."""
    if isinstance(found, dict):
        return {name: values(value) for name, value in found.items() if name not in ("low", "high")}
    if isinstance(found, list):
        return [values(value) for value in found]
    return round(found, 7) if isinstance(found, float) else found


def check_said(store: Store) -> None:
    """What is stored is what was clicked."""
    found = stated(store)
    assert len(found) == len(SETS) * 2
    for (prompt, name), annotation in found.items():
        key = next(key for key in SETS if key in prompt)
        wanted = SAID[name][key]
        tiers = [sorted(int(text[1]) for _, text in tier) for tier in annotation["ranking"]]
        assert tiers == ([list(range(SETS[key]))] if wanted is None else [sorted(tier) for tier in wanted])
        assert (annotation["all_bad"], annotation["verdict"]) == (wanted is None, "cannot_rank" if wanted == "" else "")
        assert annotation["mode"] == ("best-worst" if key == MANY else "ranking")
        assert annotation["strengths"] == (STRENGTHS.get(name, []) if key == TIES else [])
    (rewritten,) = [one for one in found.values() if one["rewrite"]]
    assert (rewritten["rewrite"], rewritten["reason"]) == ("Better said.", "They say the same.")
    assert any("5" in rating for rating in rewritten["ratings"]) and rewritten["active_ms"] > 0


def expected_pairs() -> dict[tuple[str, int, int], list[float]]:
    """(prompt, chosen, rejected) -> the strength between them, [] for none, of what both together prefer."""
    found = {}
    for prompt, k in SETS.items():
        places = {
            name: {item: rank for rank, tier in enumerate(answers[prompt] or []) for item in tier}
            for name, answers in SAID.items()
        }
        for i, j in combinations(range(k), 2):
            score = sum((at[j] > at[i]) - (at[j] < at[i]) for at in places.values() if at)
            if score == 0:
                continue
            chosen, rejected = (i, j) if score > 0 else (j, i)
            between = [
                float(sum(strengths[places[name][chosen] : places[name][rejected]]))
                for name, strengths in STRENGTHS.items()
                if prompt == TIES
            ]
            found[prompt, chosen, rejected] = [strength for strength in between if strength]
    return found


def copy_of(run: Run, served: Labeler, out: Path, export: list[str], format: str) -> tuple[Store, dict[str, Any]]:  # noqa: F811
    """The study exported to a file and imported from it into an empty database; what the import says."""
    db = out.with_name(f"{out.name}-{format}.db")
    assert run("export", "--out", out, *export, "--split", "all", "--db", served.db)[0] == 0
    status, printed, _ = run("import", out, "--format", format, "--db", db, "--json")
    assert status == 0
    return Store(db), json.loads(printed)


def test_what_was_ranked_in_the_browser_comes_back_from_every_format(
    browser: Browser,
    served: Labeler,
    tmp_path: Path,
    run: Run,  # noqa: F811
) -> None:
    for name in SAID:
        seat = Seat(browser, served, name)
        rank_all(seat, name)
        assert seat.errors == [] and seat.outside == []
        seat.context.close()
    check_said(served.store)
    before = stated(served.store)
    agreement, worths = summary.agreement(served.store), summary.strengths(served.store)
    assert "value" in agreement["pairwise_agreement"] and all("value" in one for one in worths["worths"].values())
    for out in ("out.jsonl", "out.jsonl.gz", "out.parquet", "folder"):
        kind = ["--kind", "dataset"] if out == "folder" else []
        copy, done = copy_of(run, served, tmp_path / out, ["--names", *kind], "rankloop")
        assert (done["rankings"], done["cannot_rank"]) == (9, 1)
        assert stated(copy) == before
        assert values(summary.agreement(copy)) == values(agreement)
        assert values(summary.strengths(copy)) == values(worths)
        (ident,) = copy.images.shown_in(copy.studies.default())
        assert Pillow.open(io.BytesIO(copy.images.get(ident).data)).size == (20, 10)
        copy.close()
    for out in ("pairs.jsonl", "pairs.parquet", "pairs"):
        kind = ["--kind", "dataset"] if out == "pairs" else []
        export = ["--format", "trl-preference", "--margins", *kind]
        copy, _ = copy_of(run, served, tmp_path / out, export, "trl-preference")
        assert pairs_in(copy) == expected_pairs()
        assert {prompt.id for prompt in copy.prompts.all()} <= {prompt.id for prompt in served.store.prompts.all()}
        copy.close()
