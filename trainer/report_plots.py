"""The pictures of a reward report, each as a PNG."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

Document = dict[str, Any]

OURS, OTHER, WARM, INK, GRID = "#1f5fa8", "#7b8794", "#c2571a", "#1f2933", "#d9dee4"
ROWS = 14  # groups of a picture
DPI = 130


def pictures(document: Document) -> dict[str, bytes]:
    """name -> PNG, for each picture that the document has numbers for."""
    made: dict[str, Callable[[Document], Figure | None]] = {
        "accuracy": accuracy, "groups": groups, "reliability": reliability, "scores": scores, "length": length,
        "curve": curve, "training": training, "samples": samples, "robustness": robustness,
    }  # fmt: skip
    drawn = {name: draw(document) for name, draw in made.items()}
    return {name: png(figure) for name, figure in drawn.items() if figure is not None}


def png(figure: Figure) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    return out.getvalue()


def plain(width: float = 6.4, height: float = 3.6) -> tuple[Figure, Axes]:
    """One set of axes in the report's looks."""
    figure = Figure((width, height), layout="constrained")
    return figure, dressed(figure.subplots())


def dressed(axes: Axes) -> Axes:
    """Without what is no data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(OTHER)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    return axes


def intervals(axes: Axes, rows: Sequence[tuple[str, Document, str]], level: float = 0.5) -> None:
    """A dot and its 95% interval a row, the first on top; (name, statistic, colour). `level`: where nothing is shown."""
    for at, (_, found, colour) in enumerate(rows):
        y = len(rows) - 1 - at
        low, high = found["low"], found["high"]
        if low is not None and high is not None:
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
        axes.plot([found["value"]], [y], "o", color=colour, markersize=6)
        axes.annotate(
            f"{found['value']:.2f}".replace("-", "−"),
            (found["value"], y),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows][::-1])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    axes.axvline(level, color=OTHER, linewidth=1, linestyle=":")
    axes.grid(axis="y", visible=False)


def accuracy(document: Document) -> Figure:
    """The model beside its baselines and the ceiling."""
    rows = [("reward model", document["accuracy"], OURS)]
    rows += [(name, found["accuracy"], OTHER) for name, found in document["baselines"].items()]
    if "value" in document["ceiling"]:
        rows.append(("human ceiling", document["ceiling"], WARM))
    figure, axes = plain(6.4, 0.55 * len(rows) + 1)
    intervals(axes, rows)
    axes.set_xlabel("held-out pairs ordered like the rankings, with 95% interval over prompts")
    return figure


def groups(document: Document) -> Figure | None:
    """Accuracy by each property that takes several values."""
    several = {name: found for name, found in document["groups"].items() if len(found) > 1}
    if not several:
        return None
    heights = [min(ROWS, len(found)) + 1.2 for found in several.values()]
    figure = Figure((6.4, 0.36 * sum(heights) + 0.6), layout="constrained")
    parts = figure.subplots(len(several), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (name, found) in zip(parts, several.items(), strict=True):
        shown = sorted(found.items(), key=lambda item: -item[1]["n"])[:ROWS]
        order = [item for item in found.items() if item in shown]
        intervals(dressed(axes), [(f"{short(group)}  (n={one['n']})", one, OURS) for group, one in order])
        axes.set_title(f"by {name}", loc="left", fontsize=10, color=INK)
    parts[-1].set_xlabel("accuracy, with 95% interval over prompts")
    return figure


def reliability(document: Document) -> Figure:
    """How often the model's choice was right, by how sure it was."""
    figure, axes = plain(4.6, 4.2)
    axes.plot([0.5, 1], [0.5, 1], color=OTHER, linestyle=":", linewidth=1.2)
    for name, colour in (("raw", OTHER), ("tempered", OURS)):
        found = document["calibration"][name]
        x, y = ([one[what] for one in found["bins"]] for what in ("confidence", "right"))
        size = np.array([one["count"] for one in found["bins"]])
        axes.plot(x, y, color=colour, linewidth=1.2)
        axes.scatter(
            x, y, s=20 + 160 * size / size.sum(), color=colour, label=f"{name}: ECE {found['ece']:.3f}", zorder=3
        )
    axes.set_xlabel("how sure the model is of its choice")
    axes.set_ylabel("how often the rankings agree")
    axes.set_xlim(0.48, 1.02)
    axes.set_ylim(-0.02, 1.05)
    legend = axes.legend(frameon=False, fontsize=9, loc="lower right", scatterpoints=1)
    for handle in legend.legend_handles:
        handle.set_sizes([40])  # type: ignore[union-attr]
    return figure


def scores(document: Document) -> Figure:
    """Scores of the preferred and of the other answers, and the differences between them."""
    figure = Figure((8.4, 3.3), layout="constrained")
    left, right = (dressed(axes) for axes in figure.subplots(1, 2))
    both = [*document["chosen"], *document["rejected"]]
    bins = np.linspace(min(both), max(both) + 1e-9, 30).tolist()
    left.hist(document["rejected"], bins, color=OTHER, alpha=0.55, label="other")
    left.hist(document["chosen"], bins, color=OURS, alpha=0.55, label="preferred")
    left.set_xlabel("normalised score")
    left.set_ylabel("answers of held-out pairs")
    left.legend(frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    right.hist(document["gaps"], 30, color=OURS, alpha=0.8)
    right.axvline(0, color=INK, linewidth=1)
    right.set_xlabel("preferred less other")
    right.set_ylabel("held-out pairs")
    for axes in (left, right):
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def length(document: Document) -> Figure:
    """Score against length."""
    found = document["length"]
    figure, axes = plain(6.0, 3.6)
    x, y = 1 + np.array(found["x"]), np.array(found["y"])
    axes.scatter(x, y, s=10, color=OURS, alpha=0.4, linewidths=0)
    axes.set_xscale("log")
    line = np.array([x.min(), x.max()])
    middle = np.log2(x).mean()
    axes.plot(line, y.mean() + found["slope"] * y.std() * (np.log2(line) - middle), color=WARM, linewidth=2)
    axes.set_title(
        f"{found['slope']:+.2f} sd for a doubling within a prompt, R² {found['r2']:.2f}".replace("-", "−"),
        loc="left",
        fontsize=10,
        color=INK,
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("characters of the answer")
    axes.set_ylabel("normalised score")
    return figure


def curve(document: Document) -> Figure | None:
    """Accuracy over the number of rankings learned from."""
    points = document["curve"]
    if not points:
        return None
    figure, axes = plain()
    x = [point["comparisons"] for point in points]
    axes.fill_between(x, [p["low"] for p in points], [p["high"] for p in points], color=OURS, alpha=0.15, linewidth=0)
    axes.plot(x, [p["mean"] for p in points], "o-", color=OURS, label="probe on the base (mean and range of draws)")
    learned = document.get("learned", document["counts"]["training comparisons"])
    axes.plot([learned], [document["accuracy"]["value"]], "D", color=WARM, markersize=7, label="the reward model")
    longer = document["baselines"]["longer wins"]["accuracy"]["value"]
    axes.axhline(longer, color=OTHER, linestyle=":", linewidth=1.2, label="longer wins")
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{count:.0f}" for count in x])
    axes.set_xlabel("training comparisons")
    axes.set_ylabel("held-out accuracy")
    axes.legend(frameon=False, fontsize=9)
    return figure


def training(document: Document) -> Figure | None:
    """Loss and validation loss over the comparisons seen, for each member."""
    logged = document.get("logged", [])
    if not any("loss" in line for line in logged):
        return None
    figure, axes = plain()
    for number, role in enumerate(dict.fromkeys(line["role"] for line in logged)):
        own = [line for line in logged if line["role"] == role]
        steps = [line for line in own if "loss" in line]
        if not steps:
            continue
        seen = np.cumsum([line["comparisons"] for line in steps])
        first = number == 0
        axes.plot(
            seen,
            smooth([line["loss"] for line in steps]),
            color=OTHER,
            linewidth=1.3,
            label="training" if first else None,
        )
        at = {line["step"]: x for line, x in zip(steps, seen, strict=True)} | {0: 0}
        looks = [(at[line["step"]], line["validation/loss"]) for line in own if "validation/loss" in line]
        if looks:
            axes.plot(*zip(*looks, strict=True), "o-", color=OURS, label="validation prompts" if first else None)
    axes.set_xlabel("comparisons seen")
    axes.set_ylabel("loss a comparison")
    axes.legend(frameon=False, fontsize=9)
    return figure


def smooth(values: Sequence[float], width: int = 9) -> Any:
    """Running means of up to so many neighbours."""
    kernel = np.ones(min(width, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def samples(document: Document) -> Figure | None:
    """Scores of the sampling policies' answers before and after normalisation."""
    found = document["samples"]
    if not found:
        return None
    kinds = [name for name in ("raw", "normalised") if found[name]]
    figure = Figure((4.2 * len(kinds), 3.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        values = np.array(found[name])
        dressed(axes).hist(values, 30, color=OURS if name == "normalised" else OTHER, alpha=0.8)
        title = f"{name}: mean {values.mean():.2f}, sd {values.std():.2f}".replace("-", "−")
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("score")
        axes.set_ylabel("answers")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def robustness(document: Document) -> Figure | None:
    """The mean change of the score with each change of the answers."""
    checks = document["robustness"]
    if not checks:
        return None
    figure, axes = plain(6.4, 0.45 * len(checks) + 1)
    for at, check in enumerate(reversed(checks)):
        axes.barh(at, check["change"], color=WARM if check["warning"] else OURS, height=0.6)
    axes.set_yticks(range(len(checks)), [check["name"] for check in checks][::-1])
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("mean change of the score in standard deviations (orange: warning)")
    return figure


def short(text: str, length: int = 34) -> str:
    """Cut if it is long; a dollar is no formula."""
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")
