"""What draws itself as Gradio components, the ranking board above all; looks and behaviour live in `labeler/static/`."""

from pathlib import Path

import gradio as gr

STATIC = Path(__file__).parent / "static"
BASE_SCRIPTS = ("dom.js", "language.js")
BOARD_SCRIPTS = (
    *BASE_SCRIPTS, "ranking.js", "answer.js", "stopwatch.js", "outbox.js", "drafts.js", "tabs.js", "lease.js", "drag.js",
    "radios.js", "marks.js", "cards.js", "lanes.js", "strengths.js", "diff.js", "notes.js", "desk.js", "dialogs.js",
    "status.js", "frame.js", "keys.js", "elsewhere.js", "reading.js", "guidelines.js", "compare.js", "consent.js",
    "warning.js", "tour.js", "remark.js", "settings.js", "own_prompt.js", "tools.js", "board.js",
)  # fmt: skip
BOARD_START = "loadStrings().then(() => new Board(element.querySelector('.rb')).start());"
BOARD_LOOKS = ("board.css", "answers.css", "tools.css")
HISTORY_SCRIPTS = (*BASE_SCRIPTS, "ranking.js", "diff.js", "reading.js", "cards.js", "history.js")
HISTORY_START = "loadStrings().then(() => new History(element.querySelector('.rb')).load());"
WORK_SCRIPTS = (*BASE_SCRIPTS, "work.js")
WORK_START = "loadStrings().then(() => new WorkPage(element.querySelector('.rb')).load());"
TRAINING_SCRIPTS = (*BASE_SCRIPTS, "words.js", "plots.js", "forms.js", "promotions.js", "training.js")
TRAINING_START = "new TrainingPage(element.querySelector('.tr')).start();"
LINEAGE_SCRIPTS = (*BASE_SCRIPTS, "words.js", "lineage.js")
LINEAGE_START = "new LineagePage(element.querySelector('.tr')).load();"
# Gradio sends templates through Handlebars and then through a JavaScript template literal.
TEMPLATE_TRAPS = ("{{", "${", "`", "\\")


def static(*names: str) -> str:
    """The files of `labeler/static/`, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


def template(text: str) -> str:
    """The text, if a template engine leaves it as it is."""
    traps = [trap for trap in TEMPLATE_TRAPS if trap in text]
    assert not traps, f"A template must be static; this one has {traps}."
    return text


class Drawn(gr.HTML):  # type: ignore[misc]
    """Static HTML that a script fills. It has no Gradio value, so no text of a model meets a template."""

    def __init__(self, html: str, looks: str, script: str) -> None:
        super().__init__(
            html_template=template(html), css_template=template(looks), js_on_load=script, apply_default_css=False
        )


class RankBoard(Drawn):
    """Draws itself from GET /api/next and answers through /api/submit, skip, undo and draft.

    No Gradio event stands between an annotator and the next task.
    """

    def __init__(self) -> None:
        super().__init__('<div class="rb"></div>', static(*BOARD_LOOKS), f"{static(*BOARD_SCRIPTS)}\n{BOARD_START}")


class HistoryList(Drawn):
    """Draws an annotator's answers from GET /api/history."""

    def __init__(self) -> None:
        script = f"{static(*HISTORY_SCRIPTS)}\n{HISTORY_START}"
        super().__init__('<div class="rb rb-history"></div>', static(*BOARD_LOOKS), script)


class WorkPage(Drawn):
    """Draws an annotator's own numbers from GET /api/work."""

    def __init__(self) -> None:
        script = f"{static(*WORK_SCRIPTS)}\n{WORK_START}"
        super().__init__('<div class="rb"></div>', static("board.css", "work.css"), script)


class TrainingPage(Drawn):
    """Draws forms, jobs and their plots from /api/training, and who answers from /api/promotions."""

    def __init__(self) -> None:
        script = f"{static(*TRAINING_SCRIPTS)}\n{TRAINING_START}"
        super().__init__('<div class="tr"></div>', static("training.css"), script)


class LineagePage(Drawn):
    """Draws policies, reward models and what made them from GET /api/lineage."""

    def __init__(self) -> None:
        script = f"{static(*LINEAGE_SCRIPTS)}\n{LINEAGE_START}"
        super().__init__('<div class="tr"></div>', static("training.css", "lineage.css"), script)
