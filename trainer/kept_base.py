"""The quantised base on disk: the first stage that loads a large model quantises it, the others read what came out."""

import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from trainer.embedded import cache_folder, put_in_place, there
from trainer.fingerprint import commit_of

GIB = 2**30
WORTH_KEEPING = 1.0  # GiB of quantised weights: a smaller model is quantised in seconds
SHARD = 10**9  # bytes of a file: so much of a card's weights is in the machine's memory at a time while it is written
FINGERPRINT = "fingerprint"  # file: of the weights that were quantised, which may have been deleted since
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.index.json", "config.json")


@dataclass(frozen=True, slots=True)
class KeptBase:
    """Where one model's weights in one quantisation are kept; nothing is there unless all of it is."""

    folder: Path

    @classmethod
    def of(cls, source: str | Path, quantization: BitsAndBytesConfig, dtype: torch.dtype) -> "KeptBase":
        """By the weights (the hub's commit, or a folder's files with their sizes and times), how they are quantised, and the
        versions of the libraries that do it."""
        if Path(source).is_dir():
            files = sorted(file for pattern in WEIGHT_FILES for file in Path(source).glob(pattern))
            weights: Any = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        else:
            weights = [str(source), commit_of(source)]
        libraries = [version(name) for name in ("bitsandbytes", "transformers")]
        said = json.dumps([weights, quantization.to_diff_dict(), str(dtype), libraries], default=str)
        return cls(cache_folder() / "bases" / hashlib.sha256(said.encode()).hexdigest()[:24])

    @property
    def there(self) -> bool:
        """Whether it can be read."""
        return there(self.folder)

    @property
    def weights(self) -> str:
        """The fingerprint of what was quantised; "" if it is not known."""
        path = self.folder / FINGERPRINT
        return path.read_text() if path.is_file() else ""

    def keep(self, model: Any, weights: str) -> None:
        """Write the loaded model, quantised from those `weights` (their fingerprint), if it is large and there is room; whole
        or not at all. Says on stderr what it does."""
        size = model.get_memory_footprint() / GIB
        if size < WORTH_KEEPING:
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder.parent).free / GIB
        if free < 1.1 * size + 1:
            print(
                f"The quantised base is not kept on disk: it takes {size:.1f} GiB, and {self.folder.parent} has "
                f"{free:.1f}; every stage will quantise it again. RANKLOOP_CACHE names another disk.",
                file=sys.stderr,
            )
            return
        print(f"Keeping the quantised base for the next stages ({size:.1f} GiB in {self.folder}) ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".writing-") as temporary:
            whole = Path(temporary) / "base"
            model.save_pretrained(whole, max_shard_size=SHARD)
            (whole / FINGERPRINT).write_text(weights)
            put_in_place(whole, self.folder)
