"""Where annotators rank."""

from labeler.board import RankBoard
from labeler.pages.header import Header


def build() -> None:
    """Draw the page into the Gradio context. It has no handler: the board talks to the ranking API."""
    Header()
    RankBoard()
