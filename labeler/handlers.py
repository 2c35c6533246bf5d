"""What becomes of a page's event whose handler fails: one sentence for the reader, and in the log its kind and place.

Gradio itself prints the exception with its message, which may quote what somebody said.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from preferences.errors import RankloopError
from preferences.logs import note

Handler = Callable[..., Any]


def quieten(blocks: gr.Blocks) -> None:
    """Do so for all events of an app."""
    for event in blocks.fns.values():
        if event.fn:
            event.fn = quiet(event.fn)


def quiet(handler: Handler) -> Handler:
    """The handler; of what it raises, mistakes of whoever uses the page stay as they are."""

    @wraps(handler)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return handler(*values, **named)
        except (RankloopError, gr.Error):
            raise
        except Exception as error:
            note("failure", logging.ERROR, error)
            raise gr.Error("The server failed; try again.", print_exception=False) from None

    return call
