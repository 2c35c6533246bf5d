"""The labeler: FastAPI with Gradio pages mounted on it. Never torch."""

import os

# Gradio reads these once, when it is first imported: no telemetry, and no statistics rebuilt at each queued event.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
