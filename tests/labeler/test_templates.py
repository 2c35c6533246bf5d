"""No text of a model or an annotator ever meets a template expression or markup of Gradio's."""

import ast
import inspect
from pathlib import Path

import gradio as gr
import pytest
from fastapi.testclient import TestClient

import labeler
from tests.labeler.test_who_may import blocks_of, events

pytestmark = [pytest.mark.security, pytest.mark.smoke]


def test_no_template_holds_an_expression(whole: TestClient) -> None:
    """Gradio puts templates through Handlebars and `new Function`: text in an expression there would run as script."""
    count = 0
    for blocks in blocks_of(whole).values():
        for part in blocks.blocks.values():
            if isinstance(part, gr.HTML):
                count += 1
                for template in (part.html_template, part.css_template):
                    assert not any(trap in template for trap in ("{{", "${", "`", "\\")), template
                assert part.value is None
            if isinstance(part, gr.Dataframe):
                assert set(part.datatype if isinstance(part.datatype, list) else [part.datatype]) == {"str"}
            assert not isinstance(part, gr.Chatbot | gr.Label)
    assert count >= 4


def test_no_event_writes_into_markup(whole: TestClient) -> None:
    for mount, _, event in events(whole):
        for part in (*event.inputs, *event.outputs):
            assert not isinstance(part, gr.HTML | gr.Markdown), (mount, event.fn.__name__)


def test_templates_in_the_source_are_static() -> None:
    """Every template passes through `template()`, which refuses expressions; no component switches a wall off."""
    folder = Path(inspect.getfile(labeler)).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path}:{node.lineno}"
            assert ast.unparse(node.func) != "gr.HTML", f"{where}: subclass gr.HTML with static templates instead"
            for keyword in node.keywords:
                if keyword.arg in ("html_template", "css_template"):
                    assert ast.unparse(keyword.value).startswith("template("), where
                assert keyword.arg not in ("sanitize_html", "server_functions"), where
