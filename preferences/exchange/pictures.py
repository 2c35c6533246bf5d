"""Pictures that prompts show, on their way out: a column `images` beside the texts that name them.

In TRL's formats they stand at their places in structured contents, as its vision datasets have them; the text of such a
place, which no chat template reads, is the picture's description.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from preferences.images import REFERENCE, Image, names_in
from preferences.records import Message
from preferences.store import Store

STRUCTURED = ("trl-preference", "trl-unpaired", "sft")  # the exports whose contents are lists of parts
ANSWERS = ("chosen", "rejected", "completion")


@dataclass(frozen=True, slots=True)
class Pictures:
    """`known`: the ids that the store has. `put`: what a record holds for a picture. `used`: those that were put."""

    store: Store
    known: frozenset[str]
    put: Callable[[Image], Any]
    used: set[str] = field(default_factory=set)

    def of(self, messages: Sequence[Message]) -> list[Any]:
        """What a record holds of the pictures that those messages show, in turn."""
        idents = [ident for ident in names_in(list(messages)) if ident in self.known]
        self.used.update(idents)
        return [self.put(self.store.images.get(ident)) for ident in idents]

    def beside(self, record: dict[str, Any], name: str) -> dict[str, Any]:
        """A record of the export `name` with its pictures in `images`."""
        column = "messages" if "messages" in record else "prompt"
        shown = record[column][:-1] if name == "sft" else record[column]
        if name in STRUCTURED:
            prompt = structured(shown, self.known) + structured(record[column][len(shown) :])
            answers = {answer: structured(record[answer]) for answer in ANSWERS if answer in record}
            record = {**record, column: prompt, **answers}
        return {**record, "images": self.of(shown)}


def structured(messages: Sequence[Message], known: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The messages with contents as lists of {"type": "text" or "image", "text"}; an image's text is its description."""
    return [{**message, "content": parts(message["content"], known)} for message in messages]


def parts(text: str, known: frozenset[str]) -> list[dict[str, str]]:
    """A text as parts, which joined again say the same."""
    made, start = [], 0
    for found in REFERENCE.finditer(text):
        if found[2] in known:
            made += [{"type": "text", "text": text[start : found.start()]}, {"type": "image", "text": found[1]}]
            start = found.end()
    made.append({"type": "text", "text": text[start:]})
    return [part for part in made if part["type"] == "image" or part["text"] or len(made) == 1]


def in_bytes(image: Image) -> dict[str, Any]:
    """A picture as `datasets` keeps it in a column of type Image."""
    return {"bytes": image.data, "path": file_name(image)}


def file_name(image: Image) -> str:
    """Its file in an export, by which an import knows it."""
    return f"{image.id}.webp"


@contextmanager
def folder_beside(out: Path) -> Iterator[Callable[[Image], str]]:
    """Puts pictures into a folder beside the file `out`, once the block ends well; a record holds the path from there."""
    folder = out.parent / f"{re.split(r'[.]', out.name)[0] or out.name}-images"
    made = Path(mkdtemp(prefix=f".{folder.name}.", dir=out.parent))

    def put(image: Image) -> str:
        path = made / file_name(image)
        if not path.exists():
            path.write_bytes(image.data)
        return f"{folder.name}/{path.name}"

    try:
        yield put
        files = sorted(made.iterdir())
        if files:
            folder.mkdir(exist_ok=True)
        for file in files:
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)
