"""The report of a PPO run, or of several, as one HTML file that needs nothing else."""

from html import escape
from typing import Any

from trainer.report_html import interval, note, options, picture, section, sheet, table

Document = dict[str, Any]
WARNING = "<p class='warning'>{}</p>"


def page(document: Document, pictures: dict[str, bytes]) -> str:
    """A single run."""
    parts = [
        f"<h1>PPO run {escape(document['run'])}</h1>", recommended(document), warnings(document),
        section("Score and distance from the start", picture(pictures, "frontier", "Score against the square root of KL"),
                note("A point a checkpoint; filled ones are on the frontier: none scores as high at as little KL. The ring "
                     "is around the recommended one. Held-out prompts, answered with the same random numbers."),
                points(document)),
        section("Is the gain one of length?", picture(pictures, "matched", "Gain in score at matched length"),
                note("At matched length: the gain where both answers are equally long, by the line through the gains over "
                     "how many times longer the new answer is.")),
        section("Who wins against the start", picture(pictures, "wins", "Win rates"), people(document)),
        section("Prompt by prompt", picture(pictures, "prompts", "Score before and after, by prompt"), changed(document)),
        section("Diversity", picture(pictures, "diversity", "distinct-n and entropy by checkpoint")),
        section("Training", picture(pictures, "training", "Metrics over the iterations"),
                picture(pictures, "cost", "Seconds and memory")),
        section("The run", facts(document), options(document)),
    ]  # fmt: skip
    return sheet(document["run"], parts)


def comparison(document: Document, pictures: dict[str, bytes]) -> str:
    """Several runs beside each other."""
    runs = document["runs"]
    title = " and ".join(runs)
    parts = [
        f"<h1>PPO runs {escape(title)}</h1>", same_reward(runs), recommendations(runs),
        section("Score and distance from the start", picture(pictures, "frontier", "Score against the square root of KL")),
        section("Training", picture(pictures, "training", "Metrics over the iterations"),
                picture(pictures, "cost", "Seconds and memory")),
        section("What differs between the runs", differing(runs)),
        *(section(f"Checkpoints of {name}", points(run), warnings(run)) for name, run in runs.items()),
    ]  # fmt: skip
    return sheet(title, parts)


def recommended(document: Document) -> str:
    """What to take, and why."""
    taken = document["recommended"]
    word = "Recommended" if taken["iteration"] else "Recommended: no change"
    return f"<p><strong>{word}: {escape(taken['name'])}.</strong> {escape(taken['reason'])}</p>"


def warnings(document: Document) -> str:
    """What the numbers say against it."""
    return "".join(WARNING.format(escape(text)) for text in (*document["notes"], *document["warnings"]))


def points(document: Document) -> str:
    """Every checkpoint in numbers."""
    rows = [
        (
            point["name"], interval(point["kl"]), interval(point["score"]), interval(point["difference"], signed=True),
            interval(point["matched"], signed=True), interval(point["length"]), f"{point['eos_rate']:.0%}",
            f"{point['distinct']['2']:.2f}", f"{point['entropy']:.2f}", "yes" if point["frontier"] else "",
        )
        for point in document["points"]
    ]  # fmt: skip
    head = (
        "checkpoint", "KL [95%]", "score [95%]", "less the start's", "at matched length", "tokens", "ends itself",
        "distinct-2", "entropy", "frontier",
    )  # fmt: skip
    return table(head, rows)


def people(document: Document) -> str:
    """Win rates in numbers."""
    rows = [
        (point["name"], interval(point["win_rate"]), interval(point["people"]), point["people_decide"])
        for point in document["points"][1:]
    ]
    head = ("checkpoint", "by the reward [95%]", "by people, blind [95%]", "decided, however often one looks")
    return table(head, rows) + note(
        "People: annotators who ranked answers of both to held-out prompts without knowing which was which. The reward is "
        "what PPO was trained on, so that its own verdict is the weaker one."
    )


def changed(document: Document) -> str:
    """The greatest gains and losses."""
    rows = [
        (
            f"{one['change']:+.2f}", one["prompt"], one["before"], one["after"], f"{one['score_before']:+.2f}",
            f"{one['score_after']:+.2f}",
        )
        for one in document["changes"]
    ]  # fmt: skip
    return table(("change", "prompt", "before", "after", "score", "score"), rows)


def facts(document: Document) -> str:
    """What the report rests on, seed and hashes."""
    rows = [
        *document["counts"].items(), ("start", document["start"]), ("base", document["base"]), ("seed", document["seed"]),
        *((f"hash of the {name}", value) for name, value in document["hashes"].items()),
    ]  # fmt: skip
    return table(("what", "value"), [(name, str(value)) for name, value in rows])


def recommendations(runs: dict[str, Document]) -> str:
    """Of each run."""
    rows = []
    for name, run in runs.items():
        taken = next(point for point in run["points"] if point["name"] == run["recommended"]["name"])
        rows.append(
            (
                name, taken["name"], interval(taken["score"]), interval(taken["difference"], signed=True),
                interval(taken["kl"]), interval(taken["people"]), run["recommended"]["reason"],
            )
        )  # fmt: skip
    head = ("run", "recommended", "score [95%]", "less the start's", "KL [95%]", "people: wins", "why")
    return table(head, rows)


def same_reward(runs: dict[str, Document]) -> str:
    """A warning if the runs' scores are of different judges."""
    judges = {(run["hashes"].get("reward"), str(run["options"].get("functions"))) for run in runs.values()}
    if len(judges) == 1:
        return ""
    return WARNING.format(
        "The runs were trained on different rewards, so their scores cannot be compared; gains, KL, lengths and people's win "
        "rates can."
    )


def differing(runs: dict[str, Document]) -> str:
    """Options, seeds and hashes that are not the same in all runs."""
    every = {
        name: {**run["options"], **{f"hash: {k}": v for k, v in run["hashes"].items()}} for name, run in runs.items()
    }
    keys = dict.fromkeys(key for values in every.values() for key in values)
    rows = [
        (key, *(str(values.get(key, "")) for values in every.values()))
        for key in keys
        if len({str(values.get(key, "")) for values in every.values()}) > 1
    ]
    return table(("option", *every), rows) or note("Nothing.")
