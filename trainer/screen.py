"""What a run shows while it works: a live table on a terminal, lines elsewhere, and trackers if asked for."""

import sys
import time
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from tqdm import tqdm

from preferences.errors import RankloopError
from preferences.run_files import SAMPLES
from trainer.runs import Run

if TYPE_CHECKING:
    from trainer.ppo import Ppo

# What a column says, the metric, and how it is written.
COLUMNS = (
    ("score", "objective/scores", ".2f"),
    ("KL", "objective/kl", ".2f"),
    ("length", "val/response_length", ".0f"),
    ("EOS", "val/eos_rate", ".0%"),
    ("entropy", "policy/entropy_avg", ".2f"),
    ("clipped", "policy/clipfrac_avg", ".1%"),
    ("expl. var", "val/explained_variance", ".2f"),
    ("generate s", "seconds/generate", ".1f"),
    ("score s", "seconds/score", ".1f"),
    ("train s", "seconds/train", ".1f"),
    ("tokens/s", "seconds/tokens_per_second", ".0f"),
    ("padding", "val/padding", ".0%"),
    ("peak MB", "seconds/peak_memory_mb", ".0f"),
)
ROWS = 12  # the newest iterations that stay on the screen


class Screen:
    """Shows iterations; everything goes to stderr, since stdout may be one JSON document."""

    def __init__(self, run: Run, config: "Ppo", done: int, console: Console | None = None) -> None:
        self.run, self.config, self.first, self.began = run, config, done, time.monotonic()
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.console = console or Console(file=sys.stderr)
        self.live = (
            Live(self.table(0.0), console=self.console, auto_refresh=False) if self.console.is_terminal else None
        )
        self.bar = tqdm(
            total=config.iterations, initial=done, desc="ppo", unit="rollout", disable=self.live is not None
        )
        self.tracker = start_tracker(run, config)

    def __enter__(self) -> "Screen":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()
        self.bar.close()
        if self.tracker:
            self.tracker.end_training()

    def show(self, done: int, metrics: dict[str, Any]) -> None:
        """One more iteration."""
        self.rows = [*self.rows, (done, metrics)][-ROWS:]
        left = (self.config.iterations - done) * (time.monotonic() - self.began) / (done - self.first)
        if self.live:
            self.live.update(self.table(left), refresh=True)
        self.bar.update(1)
        self.bar.set_postfix(score=f"{metrics['objective/scores']:.2f}", kl=f"{metrics['objective/kl']:.2f}")
        if self.tracker:
            self.tracker.log({k: v for k, v in metrics.items() if isinstance(v, int | float)}, step=done)

    def samples(self, done: int, looks: list[dict[str, Any]]) -> None:
        """Answers to the same few prompts, on the screen and in samples.jsonl."""
        self.run.log({"step": done, "samples": looks}, SAMPLES)
        if not self.live:
            return
        table = Table(title=f"after {done} rollouts", show_lines=True)
        for name in ("prompt", "reference", "response", "score", "KL"):
            table.add_column(name, max_width=45 if name in ("reference", "response") else 30)
        for look in looks:
            cells = (look["prompt"], look["reference"], look["response"], f"{look['score']:.2f}", f"{look['kl']:.2f}")
            table.add_row(*map(escape, cells))
        self.live.console.print(table)

    def table(self, left: float) -> Table:
        """The newest iterations; `left`: seconds until the end, as far as can be said."""
        table = Table(title=f"ppo {self.run.folder}", caption=f"about {left / 60:.0f} min to go" if self.rows else None)
        for name in ("rollout", *(column[0] for column in COLUMNS)):
            table.add_column(name, justify="right")
        for number, metrics in self.rows:
            cells = (format(metrics[name], how) if name in metrics else "-" for _, name, how in COLUMNS)
            table.add_row(f"{number}/{self.config.iterations}", *cells)
        return table


def check_tracker(name: str) -> None:
    """Raises RankloopError if there is no such tracker here: accelerate would then log nothing, and not say so."""
    if name != "none" and LoggerType(name) not in get_available_trackers():
        raise RankloopError(
            f"--tracker {name} needs the package {name}, which is not installed here; `pip install {name}`, or leave it out."
        )


def start_tracker(run: Run, config: "Ppo") -> Any:
    """accelerate's tracker of the chosen kind, or None."""
    if config.tracker == "none":
        return None
    accelerator = Accelerator(log_with=config.tracker, project_dir=str(run.folder))
    accelerator.init_trackers("rankloop", config={k: str(v) for k, v in run.config()["config"].items()})
    return accelerator
