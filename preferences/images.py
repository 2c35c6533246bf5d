"""Pictures in prompts: checked, shrunk and encoded anew, so that a browser only ever gets a file that was made here."""

import hashlib
import io
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from PIL import ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 10 * 2**20
MAX_PIXELS = 40_000_000
MAX_SIDE = 2048  # pixels; a larger picture is shrunk
MAX_ALT = 300
REFERENCE = re.compile(r"!\[([^\[\]]*)\]\(image:([0-9a-f]{40})\)")  # a picture in a message's text: description, id
EXPORTED = re.compile(r"([0-9a-f]{40})\.webp")  # its file in an export
CONVERSATIONS = ("messages", "prompt", "chosen", "rejected", "completion")


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as WebP. `id`: 40 hex digits of SHA-256 over the file it was made from; sizes in pixels."""

    id: str
    data: bytes
    width: int
    height: int
    created: float = 0.0


def image_of(source: bytes) -> Image:
    """The picture of a PNG, JPEG or WebP file, upright, without its metadata, its first frame if it moves.

    Raises ValueError, whose text fits after "the image ...".
    """
    if len(source) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES // 2**20} MB")
    try:
        with Pillow.open(io.BytesIO(source), formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:  # before a single pixel is decoded
                raise ValueError(f"has more than {MAX_PIXELS // 10**6} million pixels")
            lossless = opened.format == "PNG" or source[12:16] == b"VP8L"  # the chunk of a lossless WebP
            picture = ImageOps.exif_transpose(opened).convert("RGBA" if opened.has_transparency_data else "RGB")
    except (OSError, SyntaxError, EOFError, Pillow.DecompressionBombError) as error:
        raise ValueError(f"is not a whole {', '.join(FORMATS)} file ({error})") from error
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    made = io.BytesIO()
    # What is already in `info` (ICC profile, EXIF with its place of origin) would be written along.
    picture.info.clear()
    picture.save(made, "WEBP", lossless=lossless, quality=90, exif=b"", icc_profile=b"")
    return Image(hashlib.sha256(source).hexdigest()[:40], made.getvalue(), picture.width, picture.height)


def reference(ident: str, alt: str = "") -> str:
    """How a message's text names a picture."""
    description = re.sub(r"[\[\]\\`\s]+", " ", alt).strip()[:MAX_ALT]
    return f"![{description}](image:{ident})"


@dataclass(slots=True)
class ImageFiles:
    """Collects the pictures that the records of a file name or hold, from the folder of that file and below it."""

    folder: Path
    found: dict[str, Image] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def place(self, record: Any) -> Any:
        """The record with every picture as Markdown in a text that names the picture's id. Raises ValueError.

        Where pictures may be: a message's `images` ([{file, alt?}]), which go to the end of its content; and, as TRL and
        `datasets` have them, the record's `images` ([file or {bytes, path}]), for the parts {"type": "image"} of contents
        that are lists of parts, else for the end of the first user's message. Whatever has another shape stays as it is.
        """
        if not isinstance(record, dict):
            return record
        given = record.get("images")
        if not isinstance(given, list | None):
            raise ValueError("'images' must be a list")
        idents = [self._take(image) for image in given or []]
        made = {name: value for name, value in record.items() if name != "images"}
        for name in CONVERSATIONS:
            if isinstance(made.get(name), list):
                made[name] = [self._placed(message) for message in joined(made[name], idents)]
        if not idents:
            return made
        named = {ident for name in CONVERSATIONS for ident in names_in(made.get(name))}
        unplaced = [reference(ident) for ident in dict.fromkeys(idents) if ident not in named]
        return with_pictures(made, "\n\n".join(unplaced)) if unplaced else made

    def take(self) -> list[Image]:
        """The pictures found since the last call."""
        taken, self.found = list(self.found.values()), {}
        return taken

    def _placed(self, message: Any) -> Any:
        """The message with its own `images` at the end of its content."""
        if not isinstance(message, dict) or "images" not in message or not isinstance(message.get("content"), str):
            return message
        content = message["content"]
        for given in _listed(message["images"]):
            content += "\n\n" + reference(self._take(given["file"]), given.get("alt", ""))
        return {**{name: value for name, value in message.items() if name != "images"}, "content": content}

    def _take(self, given: Any) -> str:
        """The id of a picture, by its file's name or as {bytes, path}. One out of an export keeps its id."""
        path, data = (given.get("path"), given.get("bytes")) if isinstance(given, dict) else (given, None)
        if not isinstance(path, str | None) or not isinstance(data, bytes | None) or (data is None and not path):
            raise ValueError("'images' must be a list of names of files or of {bytes, path}")
        kept = EXPORTED.fullmatch(Path(path or "").name)
        if kept and kept[1] in self.seen:
            return kept[1]
        image = self._made(path or "", self._read(path or "") if data is None else data)
        image = replace(image, id=kept[1]) if kept else image
        self.found[image.id] = image
        self.seen.add(image.id)
        return image.id

    def _made(self, name: str, data: bytes) -> Image:
        try:
            return image_of(data)
        except ValueError as error:
            raise ValueError(f"the image {name!r} {error}") from error

    def _read(self, name: str) -> bytes:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise ValueError(f"the image {name!r} is outside the folder of the file")
        try:
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"the image {name!r} cannot be read ({error.strerror})") from error


def joined(messages: list[Any], idents: list[str]) -> list[Any]:
    """The messages, contents that are lists of parts as texts, in which the pictures stand in turn.

    The text of a part {"type": "image"} is its description. Raises ValueError.
    """
    left = iter(idents)
    made = []
    for message in messages:
        parts = message.get("content") if isinstance(message, dict) else None
        if not isinstance(parts, list):
            made.append(message)
            continue
        texts = []
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else None
            text = (part.get("text") or "") if kind in ("text", "image") else None
            if not isinstance(text, str):
                raise ValueError('each part of a content must be {"type": "text", "text"} or {"type": "image"}')
            if kind == "image":
                ident = next(left, None)
                if ident is None:
                    raise ValueError("it has fewer 'images' than places for them")
                text = reference(ident, text)
            texts.append(text)
        made.append({**message, "content": "".join(texts)})
    return made


def names_in(value: Any) -> list[str]:
    """The ids of the pictures that a text, or the texts of messages, name."""
    texts = (
        [message.get("content") for message in value if isinstance(message, dict)]
        if isinstance(value, list)
        else [value]
    )
    return [ident for text in texts if isinstance(text, str) for _, ident in REFERENCE.findall(text)]


def with_pictures(record: dict[str, Any], pictures: str) -> dict[str, Any]:
    """The record with those pictures at the end of the first user's message; without a prompt, of both transcripts."""
    for names in (("messages",), ("prompt",), ("chosen", "rejected")):
        if all(isinstance(record.get(name), str | list) for name in names):
            return {**record, **{name: _ended(record[name], pictures) for name in names}}
    raise ValueError("it has 'images' but no prompt to show them in")


def _ended(prompt: Any, pictures: str) -> Any:
    if isinstance(prompt, str):
        return f"{prompt}\n\n{pictures}"
    made, done = [], False
    for message in prompt:
        first = not done and isinstance(message, dict) and message.get("role") == "user"
        done = done or first
        made.append({**message, "content": f"{message.get('content')}\n\n{pictures}"} if first else message)
    return made


def _listed(images: Any) -> list[dict[str, str]]:
    """`images`, if it is a list of {file, alt?}. Raises ValueError."""
    if not isinstance(images, list):
        raise ValueError("'images' must be a list of {file, alt}")
    for image in images:
        texts = isinstance(image, dict) and image.get("file") and all(isinstance(text, str) for text in image.values())
        if not texts or set(image) - {"file", "alt"}:
            raise ValueError("each image needs a 'file' and may have an 'alt' text")
    return images
