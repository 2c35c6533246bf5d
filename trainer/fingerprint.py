"""Which weights a model has, told without reading all of them: the names, types and shapes of its tensors, and a few bytes
of each. The same wherever they lie, under whatever name, and however they are divided among files."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

SAMPLE = 1024  # bytes, at the beginning, the middle and the end of each tensor
MOST_HEADER = 100_000_000  # bytes: safetensors' own limit


def fingerprint(source: str | Path) -> str:
    """16 hex digits for a folder, or for a hub id by what lies in the hub's cache; "" if no safetensors are there.

    Raises ValueError for a file that is none.
    """
    tensors = sorted(one for file in weight_files(source) for one in sampled(file))
    return hashlib.sha256(json.dumps(tensors).encode()).hexdigest()[:16] if tensors else ""


def weight_files(source: str | Path) -> list[Path]:
    """The safetensors that transformers reads: one, or those that the index names; none if one of them is missing."""
    if whole := place_of(source, "model.safetensors"):
        return [whole]
    index = place_of(source, "model.safetensors.index.json")
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index else []
    found = [place for name in names if (place := place_of(source, name))]
    return found if len(found) == len(names) else []


def commit_of(source: str | Path) -> str | None:
    """Of a hub id, the commit whose config.json lies in the hub's cache; transformers' configurations do not say it."""
    config = place_of(source, "config.json")
    return config.parent.name if config else None


def place_of(source: str | Path, name: str) -> Path | None:
    """A file of a folder, or of a hub id in the hub's cache, if it is there."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    cached = try_to_load_from_cache(str(source), name)
    return Path(cached) if isinstance(cached, str) else None


def sampled(path: Path) -> Iterator[tuple[str, str, list[int], str]]:
    """(name, type, shape, hash of the sampled bytes) of each tensor of a safetensors file.

    The format: https://huggingface.co/docs/safetensors, "Format".
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > MOST_HEADER:
            raise ValueError(f"{path} is no safetensors file")
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for name, said in header.items():
            begin, end = said["data_offsets"]
            digest = hashlib.sha256()
            for place in (begin, (begin + end) // 2, max(begin, end - SAMPLE)):
                file.seek(8 + size + place)
                digest.update(file.read(min(SAMPLE, end - place)))
            yield name, said["dtype"], said["shape"], digest.hexdigest()
