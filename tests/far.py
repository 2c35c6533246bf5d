"""A labeler and workers that share no files, in processes that can be killed at any moment."""

from pathlib import Path
from typing import Any

from labeler.worker_tokens import new_token
from preferences.store import Store
from tests.forks import Forks
from tests.labeler.mortal import Mortal

# The trainer, imported once: each line that it reads is a worker's options, with which it starts a process.
# "die": after how many pieces of files it is killed, in the middle of sending.
WORKERS = """
import json, os, signal, sys
from pathlib import Path
import trainer.errand, trainer.far_labeler, trainer.jobs, trainer.sample, trainer.worker
trainer.jobs.HEARTBEAT_SECONDS = trainer.errand.BEAT_SECONDS = 0.1
trainer.sample.STORED_AT_ONCE = 2
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        options = json.loads(line)
        die, os.environ["RANKLOOP_CACHE"] = options.pop("die", None), options.pop("cache")
        if die is not None:
            plain = trainer.far_labeler.FarLabeler._ask
            def _ask(self, method, address, *more, **named):
                global die
                if method == "PUT" and (die := die - 1) < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(self, method, address, *more, **named)
            trainer.far_labeler.FarLabeler._ask = _ask
        paths = {name: Path(options[name]) for name in ("folder", "token_file")}
        try:
            trainer.worker.work(trainer.worker.Worker(**{**options, **paths}))
        except Exception as error:
            print(error, file=sys.stderr)
            os._exit(2)
        os._exit(0)
    print(pid, flush=True)
"""
QUICK = "import labeler.errands, labeler.uploads, labeler.worker_api\nlabeler.errands.STALE_SECONDS = 1.0\n"
SMALL_PIECES = "labeler.worker_api.PIECE_BYTES = 4096\n"


class Hosts:
    """`here`: the labeler's folder, with its store; `worker_folder`: of each worker one of its own."""

    def __init__(self, folder: Path, store: Store, model: Path, before: str = QUICK) -> None:
        self.folder, self.store = folder, store
        self.server = Mortal(store.path, before=before)
        self.server.start()
        self.options: dict[str, Any] = {
            "model": str(model), "quantize": "none", "max_new_tokens": 6, "temperature": 1.0, "poll": 0.1, "waiting": 0,
            "once": True, "server": f"http://127.0.0.1:{self.server.port}",
        }  # fmt: skip
        self.forks: Forks | None = None
        self.log = folder / "workers.log"

    def token(self, name: str) -> Path:
        """A new token in a file, in the folder of the worker that is to use it."""
        place = self.folder / f"host-{name}"
        place.mkdir(exist_ok=True)
        (place / "token").write_text(new_token(self.store, name) + "\n")
        return place / "token"

    def of(self, name: str) -> dict[str, Any]:
        """Options of a worker on the host of that name."""
        token = self.folder / f"host-{name}" / "token"
        if not token.exists():
            self.token(name)
        return {**self.options, "token_file": str(token), "folder": str(token.parent / "work")}

    def start(self, name: str, **more: Any) -> int:
        """A worker process on the host of that name."""
        if self.forks is None:
            self.forks = Forks(WORKERS, self.log)
        return self.forks.start({**self.of(name), "cache": str(self.folder / f"host-{name}"), **more})

    def close(self) -> None:
        """End all of them."""
        if self.forks:
            self.forks.close()
        self.server.close()
