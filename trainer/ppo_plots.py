"""The pictures of a report on a PPO run, or on several, each as a PNG."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainer.plot_names import Named, write_names
from trainer.report_plots import INK, OTHER, OURS, WARM, dressed, intervals, plain, png, short

Document = dict[str, Any]

PHASES = {"seconds/generate": "generate", "seconds/score": "score", "seconds/train": "train"}
SHADES = (OURS, "#6fa3d8", WARM)
RUNS = (OURS, WARM, "#3b8f5a", "#8a5fb0", OTHER, "#b8860b")
CURVES = {
    "objective/scores": "score (training prompts)", "objective/kl": "KL, nats an answer",
    "val/response_length": "tokens an answer", "val/eos_rate": "ends itself",
    "policy/entropy_avg": "entropy, nats a token", "val/distinct_2": "distinct-2",
}  # fmt: skip


def pictures(document: Document) -> dict[str, bytes]:
    """name -> PNG, for each picture that the document has numbers for."""
    made: dict[str, Callable[[Document], Figure | None]] = {
        "frontier": frontier, "matched": matched, "wins": wins, "prompts": prompts, "diversity": diversity,
        "training": training, "cost": cost,
    }  # fmt: skip
    drawn = {name: draw(document) for name, draw in made.items()}
    return {name: png(figure) for name, figure in drawn.items() if figure is not None}


def comparison(document: Document) -> dict[str, bytes]:
    """The pictures of several runs beside each other."""
    runs = document["runs"]
    drawn = {"frontier": frontiers(runs), "training": trainings(runs), "cost": costs(runs)}
    return {name: png(figure) for name, figure in drawn.items() if figure is not None}


def frontier(document: Document) -> Figure:
    """Held-out score against sqrt(KL), one point a checkpoint; what is recommended has a ring around it."""
    figure, axes = plain(6.4, 4.0)
    steps = [line for line in document["logged"] if "objective/kl" in line]
    x = np.sqrt(np.maximum(0, [line["objective/kl"] for line in steps]))
    axes.plot(
        x,
        [line["objective/scores"] for line in steps],
        ".",
        color=OTHER,
        alpha=0.45,
        markersize=5,
        label="rollouts in training",
    )
    on_axes(axes, document, OURS, "checkpoints on held-out prompts, 95%")
    finished(figure, axes, [document])
    return figure


def finished(figure: Figure, axes: Axes, documents: Sequence[Document]) -> None:
    """The legend, and the names of all checkpoints."""
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    named = [
        Named(
            f"@{point['iteration']}" if point["iteration"] else "start", point["sqrt_kl"],
            *(point["score"][end] for end in ("value", "low", "high")),
        )
        for document in documents for point in document["points"]
    ]  # fmt: skip
    write_names(axes, named, INK)


def on_axes(axes: Axes, document: Document, colour: str, label: str) -> None:
    """A run's checkpoints."""
    points = document["points"]
    x, y = [point["sqrt_kl"] for point in points], [point["score"]["value"] for point in points]
    ends = np.array(
        [[p["score"]["value"] - p["score"]["low"], p["score"]["high"] - p["score"]["value"]] for p in points]
    ).T
    axes.errorbar(x, y, np.maximum(ends, 0), fmt="none", ecolor=colour, alpha=0.4, capsize=2)
    axes.plot(x, y, "-", color=colour, linewidth=1, alpha=0.6)
    on = np.array([point["frontier"] for point in points])
    axes.scatter(np.array(x)[on], np.array(y)[on], s=38, color=colour, zorder=3, label=label)
    axes.scatter(np.array(x)[~on], np.array(y)[~on], s=38, facecolors="white", edgecolors=colour, zorder=3)
    for point in points:
        if point["name"] == document["recommended"]["name"]:
            at = (point["sqrt_kl"], point["score"]["value"])
            axes.scatter(*at, s=170, facecolors="none", edgecolors=WARM, linewidths=2, zorder=4)
    axes.set_xlabel("square root of the KL to the start (nats an answer)")
    axes.set_ylabel("score")


def matched(document: Document) -> Figure:
    """The gain in score of each checkpoint, as it is and at matched length."""
    rows = []
    for point in document["points"][1:]:
        rows.append((short(point["name"]), point["difference"], OTHER))
        if "value" in point["matched"]:
            rows.append(("the same, at matched length", point["matched"], OURS))
    figure, axes = plain(6.4, 0.45 * len(rows) + 1)
    intervals(axes, rows, level=0)
    axes.set_xlabel("score less the start's, paired by prompt, 95%")
    return figure


def wins(document: Document) -> Figure:
    """How often each checkpoint beats the start: in the eyes of the reward, and of people."""
    rows = []
    for point in document["points"][1:]:
        rows.append((short(point["name"]), point["win_rate"], OTHER))
        if "value" in point["people"]:
            rows.append((f"the same, people (n={point['people']['n']})", point["people"], WARM))
    figure, axes = plain(6.4, 0.45 * len(rows) + 1)
    intervals(axes, rows)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("held-out prompts won against the start (grey: by the reward; orange: by people), 95%")
    return figure


def prompts(document: Document) -> Figure:
    """Each prompt's score before and after."""
    start, name = document["points"][0]["name"], shown(document)
    before, after = (np.array(document["scores"][which]) for which in (start, name))
    figure, axes = plain(4.8, 4.4)
    ends = [min(before.min(), after.min()), max(before.max(), after.max())]
    axes.plot(ends, ends, color=OTHER, linestyle=":", linewidth=1.2)
    axes.scatter(before, after, s=22, color=np.where(after >= before, OURS, WARM).tolist(), alpha=0.75, linewidths=0)
    axes.set_title(
        f"{short(name)}: {(after > before).sum()} prompts up, {(after < before).sum()} down",
        loc="left",
        fontsize=10,
        color=INK,
    )
    axes.set_xlabel("score of the start's answer")
    axes.set_ylabel("score of the new answer")
    return figure


def shown(document: Document) -> str:
    """The checkpoint whose prompts are shown: the recommended one, or the last if that is the start."""
    taken = document["recommended"]
    return str(taken["name"] if taken["iteration"] else document["points"][-1]["name"])


def diversity(document: Document) -> Figure:
    """distinct-n and entropy by checkpoint."""
    points = document["points"]
    figure = Figure((8.4, 3.2), layout="constrained")
    left, right = (dressed(axes) for axes in figure.subplots(1, 2))
    x = [point["iteration"] for point in points]
    for n, colour in zip("123", SHADES, strict=True):
        left.plot(x, [point["distinct"][n] for point in points], "o-", color=colour, label=f"distinct-{n}")
    left.set_ylim(0, 1.02)
    left.set_ylabel("different among all runs of n tokens")
    left.legend(frameon=False, fontsize=9)
    right.plot(x, [point["entropy"] for point in points], "o-", color=OURS)
    right.set_ylim(0, 1.1 * max(point["entropy"] for point in points))
    right.set_ylabel("entropy, nats a token")
    for axes in (left, right):
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def training(document: Document) -> Figure | None:
    """What training logged, iteration by iteration."""
    return trainings({"": document})


def trainings(runs: dict[str, Document]) -> Figure | None:
    """The same of several runs."""
    if not any(run["logged"] for run in runs.values()):
        return None
    figure = Figure((8.4, 4.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(2, 3).flat, CURVES.items(), strict=True):
        dressed(axes)
        for (name, run), colour in zip(runs.items(), colours(len(runs)), strict=True):
            lines = [line for line in run["logged"] if key in line]
            axes.plot(
                [line["step"] for line in lines], [line[key] for line in lines], color=colour, label=short(name, 18)
            )
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("iteration", fontsize=10)
    if len(runs) > 1:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def cost(document: Document) -> Figure | None:
    """Seconds by phase and the peak of memory."""
    return costs({document["run"]: document})


def costs(runs: dict[str, Document]) -> Figure | None:
    """The same of several runs, as bars."""
    runs = {name: run for name, run in runs.items() if run["logged"]}
    if not runs:
        return None
    figure = Figure((8.4, 0.5 * len(runs) + 1.5), layout="constrained")
    left, right = (dressed(axes) for axes in figure.subplots(1, 2))
    for at, run in enumerate(reversed(runs.values())):
        begin = 0.0
        for (key, phase), colour in zip(PHASES.items(), SHADES, strict=True):
            seconds = float(np.mean([line[key] for line in run["logged"]]))
            left.barh(at, seconds, left=begin, height=0.6, color=colour, label=phase if not at else None)
            begin += seconds
        left.annotate(f" {begin:.1f} s", (begin, at), va="center", fontsize=9, color=INK)
        peak = max(line["seconds/peak_memory_mb"] for line in run["logged"])
        right.barh(at, peak, height=0.6, color=OTHER)
        right.annotate(f" {peak:,.0f} MB", (peak, at), va="center", fontsize=9, color=INK)
    names = [short(name, 20) for name in runs][::-1]
    left.set_yticks(range(len(runs)), names)
    right.set_yticks(range(len(runs)), [""] * len(runs))
    left.set_xlabel("mean seconds of an iteration")
    right.set_xlabel("peak memory, MB")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.18)
        axes.set_ylim(-0.6, len(runs) - 0.4)
    left.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return figure


def frontiers(runs: dict[str, Document]) -> Figure:
    """The checkpoints of several runs."""
    figure, axes = plain(6.8, 4.4)
    for (name, run), colour in zip(runs.items(), colours(len(runs)), strict=True):
        on_axes(axes, run, colour, short(name))
    finished(figure, axes, list(runs.values()))
    return figure


def colours(count: int) -> Sequence[str]:
    """As many, from the beginning again if there are too few."""
    return [RUNS[i % len(RUNS)] for i in range(count)]
