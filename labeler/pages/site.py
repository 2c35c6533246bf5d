"""The annotators' pages as one Gradio app: /app/annotate, /app/history and, at its root, /app/ (the dashboard)."""

from typing import Any

import gradio as gr

from labeler.board import STATIC
from labeler.pages import annotate, dashboard, history

FONT = ["system-ui", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Gradio's plain theme in the colours of site.css, with fonts that every machine has."""
    return gr.themes.Base(font=FONT, font_mono=MONO).set(
        body_background_fill="var(--ground)",
        body_background_fill_dark="var(--ground)",
        body_text_color="var(--ink)",
        body_text_color_dark="var(--ink)",
        body_text_color_subdued="var(--quiet)",
        body_text_color_subdued_dark="var(--quiet)",
        block_background_fill="var(--card)",
        block_background_fill_dark="var(--card)",
        border_color_primary="var(--soft)",
        border_color_primary_dark="var(--soft)",
        block_label_text_color="var(--quiet)",
        block_label_text_color_dark="var(--quiet)",
        block_info_text_color="var(--quiet)",
        block_info_text_color_dark="var(--quiet)",
        color_accent="var(--accent)",
        button_primary_background_fill="var(--accent)",
        button_primary_background_fill_dark="var(--accent)",
        button_primary_background_fill_hover="var(--accent)",
        button_primary_background_fill_hover_dark="var(--accent)",
        button_primary_text_color="var(--on-accent)",
        button_primary_text_color_dark="var(--on-accent)",
    )


# How every page looks, as gr.mount_gradio_app takes it.
LOOK: dict[str, Any] = {
    "theme": theme(),
    "css_paths": [STATIC / "site.css"],
}


def build_site() -> gr.Blocks:
    """The pages for everybody with an account. Annotators rank at /app/annotate."""
    with gr.Blocks(title="Rankloop", analytics_enabled=False, fill_width=True) as site:
        dashboard.build()
    with site.route("Annotate", "annotate"):
        annotate.build()
    with site.route("History", "history"):
        history.build()
    return site
