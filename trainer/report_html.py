"""A report as one HTML file that needs nothing else: no script, no remote file, every text escaped."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

Document = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #55606d; --line: #d9dee4; --page: #fff; --warn: #fdf1e7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #a3adb8; --line: #3a444f; --page: #14181d; --warn: #3a2a1c; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 auto; padding: 1rem;
  max-width: 64rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p.note { color: var(--soft); }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
td.words { text-align: right; overflow-wrap: anywhere; }
td.text { min-width: 12rem; max-width: 22rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.warning { background: var(--warn); border-left: 4px solid #c2571a; padding: .5rem .8rem; margin: .5rem 0; }
"""
LONGEST = 500  # characters of a text in a table


def page(document: Document, pictures: dict[str, bytes]) -> str:
    """The whole file."""
    parts = [
        f"<h1>Reward model {escape(document['run'])}</h1>", facts(document), warnings(document),
        section("Accuracy on held-out prompts", picture(pictures, "accuracy", "Accuracy and baselines"), against(document)),
        section("Where it is right", picture(pictures, "groups", "Accuracy by group"), by_group(document)),
        section("Is it as sure as it may be", picture(pictures, "reliability", "Reliability diagram"), calibration(document)),
        section("Scores", picture(pictures, "scores", "Histograms"), picture(pictures, "length", "Score against length")),
        section("How more rankings would help", picture(pictures, "curve", "Learning curve"), curve(document),
                picture(pictures, "training", "Loss over training")),
        section("Answers of the sampling policies", picture(pictures, "samples", "Scores before and after normalisation")),
        section("What moves it though the answer is no better", picture(pictures, "robustness", "Robustness"),
                robustness(document)),
        section("Where it differs most from the rankings", worst(document)),
        section("The run", options(document)),
    ]  # fmt: skip
    return sheet(document["run"], parts)


def sheet(title: str, parts: Sequence[str]) -> str:
    """The whole file around its parts."""
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
    return f"<!doctype html><html lang='en'><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it; nothing if there is nothing."""
    inside = "".join(parts)
    return f"<h2>{escape(title)}</h2>{inside}" if inside else ""


def picture(pictures: dict[str, bytes], name: str, says: str) -> str:
    """The picture inside the page."""
    if name not in pictures:
        return ""
    data = base64.b64encode(pictures[name]).decode()
    return f"<figure><img alt='{escape(says)}' src='data:image/png;base64,{data}'></figure>"


def note(text: str) -> str:
    """A paragraph of explanation."""
    return f"<p class='note'>{escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Numbers to the right, long texts wrapped."""
    rows = list(rows)
    if not rows:
        return ""
    kinds = ["number" if isinstance(cell, int | float) or looks_numeric(cell) else "" for cell in rows[0]]
    top = "".join(f"<th class='{kind}'>{escape(name)}</th>" for name, kind in zip(head, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(cell_of(c, kind) for c, kind in zip(row, kinds, strict=True)) + "</tr>" for row in rows
    )
    return f"<div class='table'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def looks_numeric(cell: Any) -> bool:
    """Whether it is a text made by `interval` or `percent`, and no id that begins with a digit."""
    return (
        isinstance(cell, str)
        and cell[:1] in "0123456789+-−"
        and len(cell) < 24
        and (cell.isdigit() or not cell.isalnum())
    )


def cell_of(cell: Any, kind: str) -> str:
    """One cell, escaped. Words in a column of numbers may wrap."""
    text = f"{cell:.3f}" if isinstance(cell, float) else str(cell)
    name = "words" if kind and text and not looks_numeric(text) else kind or ("text" if len(text) > 40 else "")
    shown = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return f"<td class='{name}'>{escape(shown)}</td>"


def interval(found: Document, signed: bool = False) -> str:
    """ "0.71 [0.66, 0.75]", or why there is none."""
    if found.get("value") is None:
        return str(found.get("undefined", "none"))
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    low, high = (found["value"] if found[name] is None else found[name] for name in ("low", "high"))
    return form.format(found["value"], low, high)


def facts(document: Document) -> str:
    """What the report rests on."""
    rows = [*document["counts"].items(), ("base", document["base"]), ("members", document["members"])]
    return table(("what", "how many"), [(name, str(value)) for name, value in rows])


def warnings(document: Document) -> str:
    """What the run said of its rankings, and what the checks found."""
    found = [*document["notes"], *(check["warning"] for check in document["robustness"] if check["warning"])]
    found += document["warnings"]
    return "".join(f"<p class='warning'>{escape(text)}</p>" for text in found)


def against(document: Document) -> str:
    """The model, its baselines and the ceiling in numbers."""
    rows = [("reward model", interval(document["accuracy"]), "")]
    rows += [
        (name, interval(found["accuracy"]), interval(found["better_by"], signed=True))
        for name, found in document["baselines"].items()
    ]
    rows.append(("human ceiling", interval(document["ceiling"]), ""))
    order = document["order"]
    known = order["kendall_tau"].get("value") is not None
    tau = interval(order["kendall_tau"]) if known else "takes comparisons of three answers"
    return table(("", "accuracy [95%]", "the model is better by [95%, paired]"), rows) + note(
        f"Kendall's tau {tau}; the best-scored answer is in a ranking's best tier in "
        f"{interval(order['top_1'])}. The ceiling is what a model that is always right could reach on single labels, as far "
        "as annotators agree with each other."
    )


def by_group(document: Document) -> str:
    """Every group in numbers."""
    rows = [
        (name, group, one["n"], interval(one))
        for name, found in document["groups"].items()
        for group, one in found.items()
    ]
    return table(("by", "group", "pairs", "accuracy [95%]"), rows)


def calibration(document: Document) -> str:
    """ECE and Brier score."""
    found = document["calibration"]
    rows = [(name, found[name]["ece"], found[name]["brier"]) for name in ("raw", "tempered")]
    return table(("score differences", "ECE", "Brier score"), rows) + note(
        f"Temperature {found['temperature']:.2f}, {found['fitted']}. Dots are the larger the more pairs they stand for."
    )


def curve(document: Document) -> str:
    """What the curve is of."""
    if not document["curve"]:
        return ""
    return note(
        "Each point is a linear probe on the untouched base, fitted to the rankings of some of the prompts; it rises where "
        "more rankings would still help."
    )


def robustness(document: Document) -> str:
    """Each check in numbers."""
    rows = [
        (check["name"], f"{check['change']:+.2f}", f"{check['raised']:.0%}", f"{check['flips']:.0%}")
        for check in document["robustness"]
    ]
    head = ("the answer with", "mean change (sd)", "score higher", "worse one overtakes")
    return table(head, rows)


def worst(document: Document) -> str:
    """The disagreements, to be looked at or labelled again."""
    rows = [
        (
            one["prompt"], one["preferred"], one["other"], f"{one['preferred_score']:+.2f}", f"{one['other_score']:+.2f}",
            f"{one['share']:.0%}", one["comparison"],
        )
        for one in document["worst"]
    ]  # fmt: skip
    head = (
        "prompt",
        "preferred",
        "the model's choice",
        "score of the preferred",
        "of its choice",
        "votes",
        "comparison",
    )
    return table(head, rows)


def options(document: Document) -> str:
    """How it was trained."""
    return table(("option", "value"), [(name, str(value)) for name, value in document["options"].items()])
