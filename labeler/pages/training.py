"""The Training page for researchers and admins: a frame; labeler/static/training.js draws it from /api/training."""

from labeler.board import TrainingPage
from labeler.pages.header import Header


def build() -> None:
    """Draw the page into the Gradio context."""
    Header()
    TrainingPage()
