"""The log: one JSON object a line, in files that are rotated, without a word that somebody said or typed.

An event of this program has a fixed name and the fields that it is given. Of what libraries log only the place is kept, and
of an exception its kind and where it was raised: their messages may quote a text, a password or a token.
"""

import json
import logging
import logging.handlers
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from preferences.errors import RankloopError

OWN = "rankloop"
FRAMES = 8  # of an exception, the innermost
KEPT = 5  # older files beside the one that is written


class BadLog(RankloopError):
    """The log cannot be written."""


class JsonLines(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """{"at", "level", "event"} and the event's own fields."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower()}
        if record.name == OWN:
            line |= {"event": record.msg, **getattr(record, "fields", {})}
        else:
            line |= {"event": "library", "logger": record.name, "where": f"{record.module}:{record.lineno}"}
        if record.exc_info and record.exc_info[1]:
            line |= failure_of(record.exc_info[1])
        return json.dumps(line)


def failure_of(error: BaseException) -> dict[str, Any]:
    """ "error": its kind; "trace": where it was raised, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = [f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "trace": places}


def note(event: str, level: int = logging.INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Log an event. `fields`: numbers, ids and fixed words; never what somebody said."""
    logging.getLogger(OWN).log(level, event, exc_info=error, extra={"fields": fields})


@contextmanager
def logging_to(path: Path, file_bytes: int) -> Iterator[None]:
    """Log into that file meanwhile, a new one after so many bytes; a thread writes, so that a slow disk holds nobody up.

    A log that cannot be written later (a full disk) stops nothing. Raises BadLog.
    """
    try:
        file = logging.handlers.RotatingFileHandler(path, maxBytes=file_bytes, backupCount=KEPT, encoding="utf-8")
    except OSError as error:
        raise BadLog(f"The log {path} cannot be written ({error}); give another --log.") from error
    file.handleError = lambda record: None  # type: ignore[method-assign] # noqa: ARG005
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = logging.handlers.QueueHandler(queue)
    handler.setFormatter(JsonLines())
    writer = logging.handlers.QueueListener(queue, file)
    root, own = logging.getLogger(), logging.getLogger(OWN)
    root.addHandler(handler)
    own.setLevel(logging.INFO)
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        writer.stop()
        with suppress(OSError):
            file.close()
