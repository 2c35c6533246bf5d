"""A hub of one dataset repository, over HTTP, as far as a push of `datasets` and a card need it: files, LFS, commits."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_only_this_one"
REPOSITORY = "us/data"
ROUTES = {
    ("GET", rf"/api/datasets/{REPOSITORY}(/revision/\w+)?"): "about",
    ("POST", "/api/repos/create"): "create",
    ("POST", rf"/api/datasets/{REPOSITORY}/preupload/main"): "modes",
    ("POST", rf"/datasets/{REPOSITORY}\.git/info/lfs/objects/batch"): "batch",
    ("PUT", r"/lfs/(\w+)"): "put",
    ("POST", rf"/api/datasets/{REPOSITORY}/commit/main"): "commit",
    ("GET", rf"/api/datasets/{REPOSITORY}/tree/\w+/?(.*)"): "tree",
    ("POST", rf"/api/datasets/{REPOSITORY}/paths-info/\w+"): "paths",
    ("HEAD", rf"/datasets/{REPOSITORY}/resolve/\w+/(.+)"): "file",
    ("GET", rf"/datasets/{REPOSITORY}/resolve/\w+/(.+)"): "file",
    ("POST", "/api/validate-yaml"): "validate",
}


@dataclass(slots=True)
class Hub:
    """`files`: what is committed, by path; `private`: None until the repository is made; `asked`: every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    private: bool | None = None
    commits: int = 0
    url: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return f"{self.commits:040x}"

    def about(self) -> dict[str, Any]:
        return {"id": REPOSITORY, "sha": self.sha, "private": self.private, "siblings": [], "tags": [], "downloads": 0}

    def create(self, body: bytes) -> dict[str, Any]:
        self.private = json.loads(body)["visibility"] == "private"
        return {"url": f"{self.url}/datasets/{REPOSITORY}"}

    def modes(self, body: bytes) -> dict[str, Any]:
        """Parquet is large, as the real hub has it."""
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".parquet") else "regular" for path in paths}
        return {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]}

    def batch(self, body: bytes) -> dict[str, Any]:
        objects = json.loads(body)["objects"]
        uploads = [{**one, "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}} for one in objects]
        return {"transfer": "basic", "objects": uploads}

    def put(self, body: bytes, oid: str) -> dict[str, Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.large[oid] = body
        return {}

    def commit(self, body: bytes) -> dict[str, Any]:
        for line in body.splitlines():
            action = json.loads(line)
            value = action["value"]
            if action["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif action["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
            else:
                assert action["key"] == "header", action
        self.commits += 1
        return {"commitUrl": f"{self.url}/datasets/{REPOSITORY}/commit/{self.sha}", "commitOid": self.sha}

    def tree(self, below: str) -> list[dict[str, Any]]:
        found = [self.entry(path) for path in self.files if path.startswith(f"{below}/" if below else "")]
        folders = {path.rpartition("/")[0] for path in self.files if "/" in path}
        return found + [{"type": "directory", "path": one, "oid": "0" * 40} for one in folders if not below]

    def paths(self, body: bytes) -> list[dict[str, Any]]:
        return [self.entry(path) for path in json.loads(body)["paths"] if path in self.files]

    def entry(self, path: str) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(self.files[path]), "oid": "0" * 40}

    def validate(self, body: bytes) -> dict[str, Any]:
        assert json.loads(body)["content"].startswith("---")
        return {"errors": [], "warnings": []}


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        name, places = self.route(path)
        if name == "":
            return self.reply(404, b"")
        if name not in ("put", "validate") and self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.reply(401, b"{}", {"X-Error-Message": "Invalid credentials"})
        if self.hub.private is None and name != "create":
            return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if name == "file":
            content = self.hub.files.get(places[0])
            code = "EntryNotFound" if content is None else ""
            marks = {"X-Repo-Commit": self.hub.sha, "ETag": f'"{hashlib.sha256(content or b"").hexdigest()}"'}
            return self.reply(404 if code else 200, content or b"", marks | ({"X-Error-Code": code} if code else {}))
        if name == "tree" and places[0] and not self.hub.tree(places[0]):
            return self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        given = [body] if self.command in ("POST", "PUT") else []
        found = getattr(self.hub, name)(*given, *places)
        return self.reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def route(self, path: str) -> tuple[str, list[str]]:
        for (method, pattern), name in ROUTES.items():
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                return name, [] if name == "about" else list(found.groups())
        return "", []

    def reply(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *_: Any) -> None:
        """Nothing: a test says what it saw."""


@contextmanager
def standing_hub() -> Iterator[Hub]:
    """A hub that answers while the block lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
