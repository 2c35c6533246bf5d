"""Files that workers on other hosts send: pieces by their hash, put together and looked at before they have a name.

A piece that arrived stays, so that whoever was cut off sends the others alone.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import Field

from labeler.bodies import Body
from preferences.backups import sha256_of
from preferences.disk import Disk
from preferences.errors import BadUpload

PIECE_BYTES = 1 << 20
MOST_BYTES = 8 << 30  # of a job's pieces
MOST_JSON_BYTES, MOST_HEADER_BYTES = 64 << 20, 16 << 20
HASH = r"[0-9a-f]{64}"
# All that a run folder has which others need; checkpoints stay with the worker.
RUN_FILES = re.compile(
    r"(adapter|snapshots/[0-9]{6})(/member-[0-9]{1,3})?/"
    r"(adapter_config\.json|adapter_model\.safetensors|head\.safetensors|rankloop\.json|recheck\.json|ensemble\.json)"
)

Hash = Annotated[str, Field(pattern=f"^{HASH}$")]


class Sent(Body):
    """A file or document as its sender has it. `pieces`: each of PIECE_BYTES but the last."""

    sha256: Hash
    size: Annotated[int, Field(ge=0, le=MOST_BYTES)]
    pieces: Annotated[list[Hash], Field(max_length=MOST_BYTES // PIECE_BYTES)]


class SentFile(Sent):
    """A file of a run folder."""

    name: Annotated[str, Field(max_length=100)]


class Pieces:
    """What has arrived for one job. `folder`: of that job alone."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self.disk = disk

    def missing(self, pieces: Sequence[str]) -> list[str]:
        """Those that have not arrived."""
        return [piece for piece in dict.fromkeys(pieces) if not (self.folder / piece).is_file()]

    def add(self, sha256: str, data: bytes) -> None:
        """Keep a piece. Raises BadUpload if it is another one, NoRoom."""
        if not re.fullmatch(HASH, sha256) or hashlib.sha256(data).hexdigest() != sha256:
            raise BadUpload("What arrived does not have the hash that was said; send it again.")
        self.disk.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        if sum(path.stat().st_size for path in self.folder.iterdir()) + len(data) > MOST_BYTES:
            raise BadUpload(f"A job may send {MOST_BYTES >> 30} GiB, not more.")
        with whole_file(self.folder / sha256) as file:
            file.write(data)

    def document(self, sent: Sent) -> bytes:
        """The pieces as one document in memory. Raises BadUpload."""
        if sent.size > MOST_JSON_BYTES:
            raise BadUpload(f"A document has at most {MOST_JSON_BYTES >> 20} MiB, not {sent.size} bytes.")
        data = b"".join(self._each(sent))
        if len(data) != sent.size or hashlib.sha256(data).hexdigest() != sent.sha256:
            raise BadUpload("The pieces do not make up what was said; send it again.")
        return data

    def place(self, sent: SentFile, run: Path) -> None:
        """Put the file into the run folder, in the place of an earlier one. Raises BadUpload."""
        if not RUN_FILES.fullmatch(sent.name):
            raise BadUpload(f"{sent.name[:80]!r} is no file that a worker sends.")
        path = run / sent.name
        if has(path, sent):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with whole_file(path) as file:
            for data in self._each(sent):
                digest.update(data)
                size += len(data)
                file.write(data)
            file.flush()
            if size != sent.size or digest.hexdigest() != sent.sha256:
                raise BadUpload(f"The pieces of {sent.name} do not make it up; send it again.")
            check_content(Path(file.name), sent.name)

    def clear(self) -> None:
        """Forget what arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _each(self, sent: Sent) -> Iterator[bytes]:
        for piece in sent.pieces:
            try:
                yield (self.folder / piece).read_bytes()
            except OSError as error:
                raise BadUpload("A piece has not arrived; send what is missing, then try again.") from error


def has(path: Path, sent: Sent) -> bool:
    """Whether the file is there already, as it is said to be."""
    try:
        return path.stat().st_size == sent.size and sha256_of(path) == sent.sha256
    except OSError:
        return False


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that gets this name when all of it is there, and never if something goes wrong."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def check_content(path: Path, name: str) -> None:
    """Raises BadUpload unless the file is what its name says: a JSON object, or safetensors, which hold numbers alone."""
    if name.endswith(".json"):
        if path.stat().st_size > MOST_JSON_BYTES:
            raise BadUpload(f"{name} is too large.")
        check_object(path.read_bytes(), name)
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
            raise BadUpload(f"{name} is not in the format safetensors.")
        header = check_object(file.read(length), name)
    ends = [end_of(tensor) for key, tensor in header.items() if key != "__metadata__"]
    if None in ends or 8 + length + max((end for end in ends if end is not None), default=0) != size:
        raise BadUpload(f"{name} is not in the format safetensors.")


def end_of(entry: Any) -> int | None:
    """Where a tensor's bytes end, or None if the entry describes no tensor."""
    if not isinstance(entry, dict) or {"dtype", "shape", "data_offsets"} != entry.keys():
        return None
    offsets = entry["data_offsets"]
    fits = isinstance(offsets, list) and len(offsets) == 2 and all(type(at) is int and at >= 0 for at in offsets)
    return int(offsets[1]) if fits else None


def check_object(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object. Raises BadUpload."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadUpload(f"{name} is not valid JSON.") from error
    if not isinstance(found, dict):
        raise BadUpload(f"{name} is not a JSON object.")
    return found
