"""A browser page that notes whatever an injection does: a probe that is called, a request to another site, odd nodes."""

from typing import Any

from playwright.sync_api import Browser, Page, Request, Route

from labeler.markup import TAGS
from tests.labeler.browser import PATIENCE_MS
from tests.labeler.vectors import PROBE, SITE

# What our own scripts put into a text: buttons at code, marks of a search.
OURS = ["button", "div", "mark"]
HARMLESS = ["alt", "aria-label", "placeholder", "title", "value"]  # attributes that are only shown
EVENTS = [
    "click", "dblclick", "mouseover", "pointerover", "pointerenter", "mousemove", "focus", "focusin", "blur", "input",
    "change", "submit", "toggle", "beforetoggle", "animationstart", "animationend", "transitionend", "load", "error", "begin",
    "end", "repeat", "keydown", "scroll", "wheel", "drag", "copy", "close", "cancel", "slotchange",
]  # fmt: skip
POKE = """kinds => {
  const still = event => event.preventDefault();
  for (const kind of kinds) window.addEventListener(kind, still, true);
  for (const node of document.querySelectorAll('.rb-text *, [data-poke], [data-poke] *'))
    for (const kind of kinds) node.dispatchEvent(new Event(kind, {cancelable: true}));
  for (const kind of kinds) window.removeEventListener(kind, still, true);
}"""
INSPECT = """([probe, site, harmless, allowed]) => {
  const found = [];
  for (const node of document.querySelectorAll('*'))
    for (const {name, value} of node.attributes) {
      if (!value.includes(probe) && !value.includes(site)) continue;
      const link = node.localName === 'a' && name === 'href' && /^(https?|mailto):/i.test(value);
      if (!link && !harmless.includes(name) && !name.startsWith('data-')) found.push(`${node.localName} ${name}=${value}`);
    }
  for (const node of document.querySelectorAll('.rb-text *, [data-poke] *')) {
    if (!allowed.includes(node.localName)) found.push(`<${node.localName}>`);
    for (const {name} of node.attributes)
      if (/^on|^style$|^id$|^name$|^form/.test(name)) found.push(`${node.localName} ${name}`);
  }
  return found;
}"""
# Gradio draws the rows of a table that are in view, and no others.
SCROLL = """async () => {
  for (const box of [...document.querySelectorAll('*')].filter(node => node.scrollHeight > node.clientHeight + 20
      && /auto|scroll/.test(getComputedStyle(node).overflowY)))
    for (let top = 0; top < box.scrollHeight && top < 40000; top += Math.max(100, box.clientHeight - 20)) {
      box.scrollTop = top;
      await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    }
}"""


class Watch:
    """One page; `here`: the beginnings of the addresses that it may ask for."""

    def __init__(self, browser: Browser, *here: str) -> None:
        self.here = (*here, "data:", "blob:", "about:")
        self.hits: list[int] = []
        self.outside: list[str] = []
        self.odd: list[str] = []
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=False)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.expose_binding(PROBE, lambda _, number=-1: self.hits.append(number))
        self.context.route(lambda url: not url.startswith(self.here), self._refuse)
        self.page: Page = self.context.new_page()
        self.page.on("request", self._note)
        self.page.on("websocket", lambda socket: self.outside.append(socket.url))
        self.page.on("dialog", lambda dialog: (self.odd.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.context.on("page", lambda page: self.odd.append(f"window {page.url}"))

    @staticmethod
    def _refuse(route: Route) -> None:
        route.abort()

    def _note(self, request: Request) -> None:
        if not request.url.startswith(self.here):
            self.outside.append(request.url)

    def look(self, where: str) -> None:
        """Poke at every text that is shown, and see whether it is more than text."""
        self.page.evaluate(POKE, EVENTS)
        wanted = [PROBE, SITE, HARMLESS, [*TAGS, *OURS]]
        self.odd += [f"{where}: {found}" for found in self.page.evaluate(INSPECT, wanted)]

    def scroll(self) -> None:
        """Through everything that scrolls, so that all of it is drawn once."""
        self.page.evaluate(SCROLL)

    def found(self) -> dict[str, Any]:
        """What was noted; empty if nothing was."""
        self.page.wait_for_timeout(200)  # for what runs a moment after the page
        noted = {"hits": sorted(set(self.hits)), "outside": self.outside, "odd": self.odd}
        return {name: value for name, value in noted.items() if value}
