"""The Lineage page for researchers and admins: a frame; labeler/static/lineage.js draws it from GET /api/lineage."""

from labeler.board import LineagePage
from labeler.pages.header import Header


def build() -> None:
    """Draw the page into the Gradio context."""
    Header()
    LineagePage()
