"""What rounds of the loop came to, as one HTML file with its pictures that needs nothing else."""

from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from trainer.report_html import interval, note, picture, section, sheet, table
from trainer.report_plots import OTHER, OURS, WARM, intervals, plain, png

Document = dict[str, Any]
TITLE = "Rounds of the loop"


def write(folder: Path, rounds: list[Document], stopped: str | None) -> Path:
    """Write report.html and the PNGs; the report's path. `rounds`: the figures of each, as `play` gathers them."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: png(draw(rounds)) for name, draw in (("gold", gold), ("gain", gain), ("reward", reward))}
    for name, data in pictures.items():
        (folder / f"{name}.png").write_bytes(data)
    path = folder / "report.html"
    path.write_text(page(rounds, stopped, pictures), encoding="utf-8")
    return path


def page(rounds: list[Document], stopped: str | None, pictures: dict[str, bytes]) -> str:
    """The whole file."""
    parts = [
        f"<h1>{TITLE}</h1>", f"<p class='warning'>{escape(stopped)}</p>" if stopped else "",
        section("Gold score", picture(pictures, "gold", "Gold score of each round"), scores(rounds),
                note("The annotator's own rule without its noise, on answers to held-out prompts that no stage trained on; "
                     "each prompt counts once, 95% intervals over prompts.")),
        section("Gain over SFT", picture(pictures, "gain", "Gain of each round over SFT"),
                note("Paired by prompt. Every round is held against the SFT policy, which is also the reference of its KL.")),
        section("Reward model and blind comparisons", picture(pictures, "reward", "Accuracy and win rate of each round"),
                judged(rounds)),
        section("Where the time went", times(rounds)),
    ]  # fmt: skip
    return sheet(TITLE, parts)


def gold(rounds: list[Document]) -> Figure:
    """SFT and each round's policy."""
    sft = rounds[-1]["judge"]["sft"]
    rows = [("SFT", sft, OTHER), *((name(i), one["judge"]["ppo"], OURS) for i, one in enumerate(rounds))]
    figure, axes = plain(6.4, 0.5 * len(rows) + 1.1)
    intervals(axes, rows, level=sft["value"])
    axes.set_xlabel("gold score on held-out prompts, 95%")
    return figure


def gain(rounds: list[Document]) -> Figure:
    """Each round's policy less SFT."""
    figure, axes = plain(6.4, 0.5 * len(rounds) + 1.1)
    intervals(axes, [(name(i), one["judge"]["difference"], OURS) for i, one in enumerate(rounds)], level=0)
    axes.set_xlabel("gold score less SFT's, paired by prompt, 95%")
    return figure


def reward(rounds: list[Document]) -> Figure:
    """How often the reward model is right, and how often the new policy wins."""
    rows = []
    for i, one in enumerate(rounds):
        rows.append((f"{name(i)}: accuracy", accuracy(one), OTHER))
        if "value" in (one.get("win_rate") or {}):
            rows.append((f"{name(i)}: wins", one["win_rate"], WARM))
    figure, axes = plain(6.4, 0.5 * len(rows) + 1.1)
    intervals(axes, rows)
    axes.set_xlabel("held-out pairs ordered like the rankings (grey), blind wins over SFT (orange), 95%")
    return figure


def name(index: int) -> str:
    """Of a round."""
    return f"round {index + 1}"


def accuracy(one: Document) -> Document:
    """The reward model's, as an estimate."""
    found = one["reward"]
    return {"value": found["accuracy"], "low": found["low"], "high": found["high"]}


def scores(rounds: list[Document]) -> str:
    """Gold scores in numbers."""
    rows = [
        (
            name(i), interval(one["judge"]["sft"]), interval(one["judge"]["ppo"]),
            interval(one["judge"]["difference"], signed=True), f"{one['kl']:.2f}",
        )
        for i, one in enumerate(rounds)
    ]  # fmt: skip
    return table(("", "SFT [95%]", "the round's policy [95%]", "less SFT's [95%]", "KL, nats an answer"), rows)


def judged(rounds: list[Document]) -> str:
    """Rankings, accuracy beside what length alone would reach, and win rates."""
    rows = [
        (
            name(i), str(one["rankings"]), interval(accuracy(one)), f"{one['reward']['longer_wins']:.3f}",
            f"{one['reward']['shorter_wins']:.3f}", f"{one['reward']['ceiling']:.3f}",
            interval(one.get("win_rate") or {"undefined": "not asked"}),
        )
        for i, one in enumerate(rounds)
    ]  # fmt: skip
    head = (
        "", "rankings", "accuracy [95%]", "longer wins", "shorter wins", "the annotator's own rule",
        "blind wins over SFT [95%]",
    )  # fmt: skip
    return table(head, rows)


def times(rounds: list[Document]) -> str:
    """Seconds by stage."""
    stages = dict.fromkeys(stage for one in rounds for stage in one["seconds"])
    rows = [
        (stage, *(f"{one['seconds'][stage]:.1f}" if stage in one["seconds"] else "" for one in rounds))
        for stage in stages
    ]
    rows.append(("together", *(f"{sum(one['seconds'].values()):.1f}" for one in rounds)))
    return table(("stage", *(f"{name(i)}, seconds" for i in range(len(rounds)))), rows)
