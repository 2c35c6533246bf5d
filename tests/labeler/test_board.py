"""The board and the pages without a browser: no untrusted text can reach a template or become HTML."""

import ast
import inspect
import re
from pathlib import Path

import gradio as gr
import pytest

import labeler.login
import labeler.pages
from labeler import past
from labeler.board import (
    BOARD_LOOKS,
    BOARD_SCRIPTS,
    BOARD_START,
    HISTORY_SCRIPTS,
    HISTORY_START,
    LINEAGE_SCRIPTS,
    STATIC,
    TEMPLATE_TRAPS,
    TRAINING_SCRIPTS,
    WORK_SCRIPTS,
    WORK_START,
    HistoryList,
    RankBoard,
    WorkPage,
    static,
    template,
)
from labeler.languages import strings
from labeler.pages import ops, site
from labeler.pages.header import HTML, Header
from preferences.disk import Disk
from preferences.records import Ranking
from preferences.store import Store

PAGES = sorted(Path(labeler.pages.__file__).parent.glob("*.py"))
SCRIPTS = sorted(STATIC.glob("*.js"))
HTML_SINKS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\b|createContextualFragment|setHTML"
)


@pytest.mark.parametrize("component", [RankBoard, HistoryList, WorkPage, Header])
def test_templates_are_static(component: type[gr.HTML]) -> None:
    with gr.Blocks():
        made = component()
    assert made.value is None
    assert not made.props
    assert not made.server_fns
    for text in (made.html_template, made.css_template):
        assert not [trap for trap in TEMPLATE_TRAPS if trap in text]


@pytest.mark.parametrize("trap", ["<p>{{value}}</p>", "<p>${value}</p>", "a`b", "\\n"])
def test_a_template_that_is_not_static_is_refused(trap: str) -> None:
    with pytest.raises(AssertionError, match="static"):
        template(trap)


@pytest.mark.parametrize(
    ("scripts", "start"), [(BOARD_SCRIPTS, BOARD_START), (HISTORY_SCRIPTS, HISTORY_START), (WORK_SCRIPTS, WORK_START)]
)
def test_the_components_take_nothing_from_gradio(scripts: tuple[str, ...], start: str) -> None:
    script = static(*scripts) + start
    assert not re.search(r"\bprops\b|\btrigger\(|\bserver\.|\bwatch\('", script)
    assert "</script" not in script  # Gradio writes it into an inline script


def test_every_script_of_the_folder_is_in_use() -> None:
    ours = {*BOARD_SCRIPTS, *HISTORY_SCRIPTS, *WORK_SCRIPTS, *TRAINING_SCRIPTS, *LINEAGE_SCRIPTS}
    assert {path.name for path in SCRIPTS} == {*ours, "header.js", "study.js", "reports.js"}
    assert {path.name for path in STATIC.glob("*.css")} == {
        *BOARD_LOOKS,
        "site.css",
        "header.css",
        "work.css",
        "training.css",
        "lineage.css",
    }


def test_every_text_that_a_script_names_is_in_the_table_and_none_is_left_over() -> None:
    """Keys that are put together from parts are known by their beginning."""
    script = "\n".join(path.read_text() for path in SCRIPTS)
    table = set(strings("en"))
    sections = "|".join({key.partition(".")[0] for key in table})
    named = set(re.findall(rf'"((?:{sections})\.[\w.-]+)"', f"{script}\n{HTML}"))
    assert named <= table
    made = ("hint.", "progress.", "rest.", "strength.", "flag.", "role.", "error.", "guidelines.", "tour.")
    assert all(f"`{beginning}$" in script for beginning in made)
    login = inspect.getsource(labeler.login)
    assert {key for key in table - named if not key.startswith((*made, "join.")) and f'"{key}"' not in login} == set()


def test_html_text_becomes_nodes_in_one_place_and_only_what_the_server_sanitised() -> None:
    sinks = [(path.name, sink) for path in SCRIPTS for sink in re.findall(HTML_SINKS, path.read_text())]
    assert sinks == [("dom.js", "innerHTML")]
    uses = [use for path in SCRIPTS for use in re.findall(r"(?<!function )safeHtml\(.*\)", path.read_text())]
    assert len(uses) == 6
    assert all(re.search(r", (message|response|guidelines|consent|feedback)\.html\)", use) for use in uses)


@pytest.mark.parametrize("path", sorted(STATIC.iterdir()), ids=lambda path: path.name)
def test_static_files_load_nothing_from_elsewhere_and_stay_small(path: Path) -> None:
    text = path.read_text().replace('"http://www.w3.org/2000/svg"', "")  # a name, which nothing is loaded from
    assert not re.search(r"https?://|url\(|@import|\bimport\b\s*\(", text)
    assert text.count("\n") <= 350


@pytest.mark.parametrize("path", [path for path in PAGES if path.name not in ("__init__.py", "site.py", "header.py")])
def test_every_handler_begins_with_a_check_of_the_role(path: Path) -> None:
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    handlers = [node for node in functions if any(argument.arg == "request" for argument in node.args.args)]
    assert handlers or path.name in ("annotate.py", "history.py", "dashboard.py", "training.py", "lineage.py")
    for handler in handlers:
        first = handler.body[1]  # after the docstring
        call = first.value if isinstance(first, ast.Expr | ast.Assign) else None
        assert isinstance(call, ast.Call), f"{handler.name} begins with something else"
        assert ast.unparse(call.func) == "require"


def test_handlers_are_quick_and_private(store: Store) -> None:
    functions = ops.build_ops(store, Disk(store.path.parent)).fns.values()
    assert functions
    for function in functions:
        assert function.queue is False
        assert function.api_visibility == "private"
    assert not site.build_site().fns


def test_pages() -> None:
    assert [page[0] for page in site.build_site().pages] == ["", "annotate", "history"]


def test_echo_names_the_cards_as_they_were_shown() -> None:
    ranking = Ranking("r", "c", "a", "ranking", [["p"], ["s", "q"], ["r"]], ["q", "p", "r", "s"], "n")
    assert past.echo(ranking) == "B > D = A > C"


def test_echo_of_best_and_worst_sets_those_apart_that_were_not_compared() -> None:
    ranking = Ranking(
        "r", "c", "a", "ranking", [["p"], ["s", "q"], ["r"]], ["q", "p", "r", "s"], "n", mode="best-worst"
    )
    assert past.echo(ranking) == "B > (A, D) > C"
