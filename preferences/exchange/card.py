"""The card of an exported dataset: Markdown with the hub's metadata on top."""

import json
from collections.abc import Sequence
from typing import Any

from preferences.exchange.views import Source

WHAT = {
    "rankings": "Ranked sets: a prompt, its responses with where they came from, and each annotator's ranking with ties.",
    "trl-preference": "Pairs in TRL's preference format (explicit prompt, conversational), as a majority decided; no ties.",
    "trl-unpaired": "Answers that are acceptable or not, in TRL's unpaired preference format, as for KTO.",
    "sft": "Conversations to imitate: rewrites by annotators, and answers that a majority put first alone.",
    "prompts": "Prompts.",
}


def card(source: Source, name: str, records: dict[str, int]) -> str:
    """What is in the export, who made it and how, for a README.md. `records`: how many each split has."""
    from preferences import summary  # it loads scipy.stats, which takes longer than most exports

    study, ask = source.study, (source.study.id, source.split, source.simulated)
    exported = source.store.exported
    guideline = source.store.studies.guideline(study)
    languages = [row["origin"] for row in exported.origins(*ask, "language") if row["origin"]]
    parts = [
        front_matter(source.license, languages),
        f"# {cell(study.name)}",
        WHAT[name],
        "## Counts",
        "The split is decided once for each prompt, at import and before any label, with near-duplicates on one side.",
        table(["split", "records"], [list(pair) for pair in records.items()]),
        table_of(exported.counts(*ask)),
        "## Sources",
        table(
            ["source", "prompts"],
            [[r["origin"] or "(none given)", r["prompts"]] for r in exported.origins(*ask, "source")],
        ),
        "## Annotators",
        annotators_line(source),
        "## Agreement",
        "Over all prompts of the study, with 95% intervals by bootstrap over prompts.",
        agreement_table(summary.agreement(source.store, study.id, source.simulated)),
        "## Guidelines",
        f"Version {guideline.version} is in force." if guideline else "The study has no guidelines.",
        table(["version", "rankings"], [[r["version"] or "(none)", r["rankings"]] for r in exported.guidelines(*ask)]),
        "## Policies and sampling",
        table_of(exported.sampling(*ask)),
        "## Licence",
        source.license,
        *(["## Citation", f"```\n{source.citation.strip()}\n```"] if source.citation.strip() else []),
        "Made with Rankloop.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(license: str, languages: Sequence[str]) -> str:
    """The hub's metadata; JSON is YAML, and has an escape for "<"."""
    lines = ["---", f"license: {json.dumps(license)}"]
    if languages:
        lines.append(f"language: {json.dumps(list(languages), ensure_ascii=False)}")
    lines = [line.replace("<", "\\u003c") for line in lines]
    return "\n".join([*lines, 'tags: ["preference", "ranking", "rlhf", "rankloop"]', "---"])


def annotators_line(source: Source) -> str:
    """Who they are called, and whether simulated ones are among them."""
    names = "by name" if source.names else "by pseudonyms that are the same at each export of this study"
    simulated = (
        "Rankings by simulated annotators are included, and marked."
        if source.simulated
        else ("Rankings by simulated annotators are left out.")
    )
    return f"Annotators appear {names}. {simulated}"


def agreement_table(found: dict[str, Any]) -> str:
    """The statistics, each with its interval or why it is undefined; pairs of annotators left out."""
    flat = {
        "pairwise agreement": found["pairwise_agreement"],
        "Kendall's tau-b": found["kendall_tau_b"],
        "Kendall's W": found["kendall_w"],
        "Krippendorff's alpha, nominal": found["krippendorff_alpha"]["nominal"],
        "Krippendorff's alpha, ordinal": found["krippendorff_alpha"]["ordinal"],
        "Fleiss' kappa": found["fleiss_kappa"],
    }
    rows = [
        [name, f"undefined, because {one['undefined']}", "", "", ""]
        if "undefined" in one
        else [name, *(f"{one[key]:.3f}" for key in ("value", "low", "high")), one["n"]]
        for name, one in flat.items()
    ]
    return table(["statistic", "value", "low", "high", "n"], rows)


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of rows that have the same keys."""
    return table(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; nothing in a cell can end it."""
    if not rows:
        return ""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cell(value) for value in line) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as one line without a bar, a tag, a link or a picture."""
    text = " ".join(str("" if value is None else value).split())
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")
