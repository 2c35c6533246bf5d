"""The labeler behind a proxy that publishes it below a path, in a real browser."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("playwright")

import uvicorn
from playwright.sync_api import Browser, expect
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from labeler.commands.serve import bind
from preferences.images import image_of
from tests.labeler.browser import PATIENCE_MS, Labeler, labeler
from tests.labeler.conftest import PASSWORD, add_account, add_comparison
from tests.preferences.test_images import file_of

pytestmark = [pytest.mark.browser, pytest.mark.security]
ROOT = "/rank/one"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}


class Proxy:
    """Takes ROOT off every address and passes the request on, as nginx does with `proxy_pass http://...:7860/`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.strays: list[str] = []
        self.listener = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.client = httpx.AsyncClient(base_url=target, timeout=60)
        self.server = uvicorn.Server(uvicorn.Config(self.pass_on, log_level="error", lifespan="off", interface="asgi3"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        if not request.url.path.startswith(f"{ROOT}/"):
            self.strays.append(request.url.path)
            await PlainTextResponse("Another program lives here.", 404)(scope, receive, send)
            return
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        headers |= {"host": "inside", "x-forwarded-host": request.headers["host"], "x-forwarded-proto": "http"}
        path = request.url.path.removeprefix(ROOT) + (f"?{request.url.query}" if request.url.query else "")
        reply = await self.client.request(request.method, path, headers=headers, content=await request.body())
        response = Response(reply.content, reply.status_code)
        response.raw_headers += [
            (name, value) for name, value in reply.headers.raw if name.decode().lower() not in HOP_BY_HOP
        ]
        await response(scope, receive, send)


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[tuple[Labeler, Proxy]]:
    """A labeler that believes its proxy, and the proxy."""
    with labeler(tmp_path, "--root-path", ROOT, "--trusted-proxies", "127.0.0.1") as made:
        proxy = Proxy(made.url)
        proxy.thread.start()
        while not proxy.server.started:
            time.sleep(0.01)
        yield made, proxy
        proxy.server.should_exit = True
        proxy.thread.join()


def test_every_page_works_below_a_path(browser: Browser, behind: tuple[Labeler, Proxy]) -> None:
    made, proxy = behind
    base = proxy.url + ROOT
    rita, picture = add_account(made.store, "rita", "admin"), image_of(file_of())
    made.store.images.add([picture])
    add_comparison(
        made.store, made.store.studies.default(), f"![a cat](image:{picture.id}) ?", ["Yes.", "No."], priority=9
    )
    made.store.annotators.change_settings(rita, {"tour": True})
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page, outside = context.new_page(), []
    page.on(
        "request",
        lambda request: None if request.url.startswith((f"{base}/", "data:")) else outside.append(request.url),
    )
    page.goto(f"{base}/study/")
    assert page.url == f"{base}/login?next=/study/"
    page.fill("#name", "rita")
    page.fill("#password", PASSWORD)
    page.click("button")
    expect(page.get_by_label("Study", exact=True)).to_have_value("main")  # a Gradio event was answered
    assert page.url == f"{base}/study/"
    page.get_by_role("tab", name="Rankings").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="hours (CSV)").click()
    assert download.value.path().read_text(encoding="utf-8").startswith("annotator,")
    page.get_by_role("tab", name="People").click()
    page.get_by_label("Names to invite").fill("ines")
    page.get_by_role("button", name="Make links").click()
    expect(page.get_by_label("Links, each good once")).to_have_value(re.compile(re.escape(f"ines\t{base}/join?token=")))
    page.get_by_role("link", name="Annotate").click()
    page.wait_for_selector(".rb-card")
    page.wait_for_function("document.querySelector('.rb-turns img').naturalWidth > 0")
    assert page.get_attribute("nav a[aria-current]", "href") == f"{ROOT}/app/annotate"
    prompt = page.inner_text(".rb-turns")
    for rank in range(page.locator(".rb-card").count(), 0, -1):
        page.keyboard.press(f"Digit{rank}")
    page.keyboard.press("Enter")
    page.wait_for_function("prompt => document.querySelector('.rb-turns')?.innerText !== prompt", arg=prompt)
    for _ in range(200):  # the next comparison may be there, fetched ahead, before the answer is acknowledged
        if made.rankings(rita):
            break
        page.wait_for_timeout(50)
    assert len(made.rankings(rita)) == 1
    page.get_by_role("link", name="Administration").click()
    page.wait_for_selector("td", state="attached")
    page.click(".rh-out")
    page.wait_for_selector("#name")
    assert page.url == f"{base}/login"
    assert outside == []
    assert set(proxy.strays) <= {"/favicon.ico"}  # browsers ask every host for it, unseen by Playwright
    context.close()
