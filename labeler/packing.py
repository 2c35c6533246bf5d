"""A folder as a zip file that is made while it is sent: none of it is stored on the way."""

import io
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

CHUNK = 1 << 20


class Sent(io.RawIOBase):
    """What was written and not yet taken; a zip file that cannot go back says the sizes behind each file."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Keep it until it is taken."""
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        """All of it, once."""
        data = bytes(self._written)
        self._written.clear()
        return data


def packed(source: Path, left_out: Collection[str] = ()) -> Iterator[bytes]:
    """The zip file, about CHUNK bytes at once, without the folders of those names; weights do not get smaller by packing.

    Links that lead out of the folder are left out, as is what cannot be read; a file that grows meanwhile ends where it did.
    """
    sent = Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as archive:
        for path in files_of(source, left_out):
            name = f"{source.name}/{path.relative_to(source).as_posix()}".encode(errors="replace").decode()
            try:
                file, entry = path.open("rb"), zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            except OSError:
                continue
            with file:
                left = entry.file_size
                with archive.open(entry, "w") as into:
                    while left and (data := file.read(min(left, CHUNK))):
                        into.write(data)
                        left -= len(data)
                        yield sent.taken()
    yield sent.taken()


def files_of(source: Path, left_out: Collection[str]) -> list[Path]:
    """The files in the folder and below it, in the order of their names."""
    return sorted(
        path
        for path in source.rglob("*")
        if path.is_file()
        and path.resolve().is_relative_to(source.resolve())
        and not set(left_out) & set(path.relative_to(source).parts[:-1])
    )
