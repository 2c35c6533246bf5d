"""In a browser: how long from Enter until the next comparison is painted.

    python -m benchmarks.labeler_paint --json p.json

A real server process on a fresh database, and chromium. One annotator ranks four answers of 1.5 kB of Markdown by the
keyboard, thinks, and presses Enter. The time is from that key to the second animation frame after the new cards are in the
document: the first is painted after its callbacks, so the second does not come before the cards are seen.
"""

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from playwright.sync_api import Page, Playwright, sync_playwright

from benchmarks.labeler_load import PASSWORD, K, fill, serving
from preferences.store import Store
from tests.labeler.browser import launch

LEFT_OVER = 20  # nobody gets the last few of a study ahead of time
WATCH = """() => {
  window.paints = [];
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const before = document.querySelector(".rb-turns");
    const seen = new MutationObserver(() => {
      const now = document.querySelector(".rb-turns");
      if (!now || now === before || document.querySelectorAll(".rb-card").length === 0) return;
      seen.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => window.paints.push(performance.now() - event.timeStamp)));
    });
    seen.observe(document.body, { childList: true, subtree: true });
  }, true);
}"""


@dataclass(frozen=True, slots=True)
class Paint:
    """Rank in a browser, and say how long each next comparison took to be seen."""

    comparisons: int = 100
    """How many are ranked."""
    think_time: float = 0.5
    """Seconds between a comparison being seen and Enter."""
    json: Path | None = None
    """Where to write the figures (always printed)."""
    seed: int = 1
    """Of the texts."""

    def run(self) -> None:
        """Fill a database, serve it, rank, count what is stored."""
        with tempfile.TemporaryDirectory(prefix="labeler-paint-") as folder:
            db = Path(folder) / "labels.db"
            fill(db, 1, self.comparisons + LEFT_OVER, self.seed)
            with serving(db) as (port, _), sync_playwright() as playwright:
                times = rank(playwright, f"http://127.0.0.1:{port}", self)
            figures = report(times, db, self)
        text = json.dumps(figures, indent=2)
        print(text)
        if self.json:
            self.json.write_text(text + "\n")


def rank(playwright: Playwright, url: str, paint: Paint) -> list[float]:
    """Milliseconds from each Enter to the next comparison."""
    browser = launch(playwright)
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.context.request.post(f"{url}/login", data={"name": "annotator 0", "password": PASSWORD})
    page.context.request.post(f"{url}/api/settings", data={"tour": True})
    page.goto(f"{url}/app/annotate")
    page.wait_for_selector(".rb-card")
    page.evaluate(WATCH)
    for number in range(paint.comparisons):
        rank_one(page, number, paint.think_time)
    page.wait_for_function("/^Saved/.test(document.querySelector('.rb-state').textContent)")  # the last one, too
    times: list[float] = page.evaluate("window.paints")
    browser.close()
    return times


def rank_one(page: Page, number: int, think_time: float) -> None:
    """Rank what is shown, last card best, and wait until the next is seen."""
    for digit in range(K, 0, -1):
        page.keyboard.press(str(digit))
    time.sleep(think_time)
    page.wait_for_function("!document.querySelector('.rb-submit').disabled")  # the answer before has been stored
    page.keyboard.press("Enter")
    page.wait_for_function("count => window.paints.length === count", arg=number + 1)


def report(times: list[float], db: Path, paint: Paint) -> dict[str, Any]:
    """The figures; times in milliseconds. `stored`: rankings in the database."""
    store = Store(db)
    stored = len(store.rankings.current())
    store.close()
    p50, p95 = np.percentile(times, [50, 95]).round(1).tolist()
    asked = {name: value for name, value in asdict(paint).items() if name != "json"}
    return {
        **asked, "p50_ms": p50, "p95_ms": p95, "max_ms": round(max(times), 1), "painted": len(times), "stored": stored,
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(Paint).run()
