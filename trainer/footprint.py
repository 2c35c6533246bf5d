"""What a model takes outside the GPU: download, disk, and memory of the machine while its weights are loaded."""

from dataclasses import dataclass
from typing import Any

import torch

from trainer.embedded import EMBEDDED
from trainer.fake_base import empty_model
from trainer.fitting import GIB, Setup, rehearsing
from trainer.kept_base import SHARD, WORTH_KEEPING
from trainer.known_models import BYTES
from trainer.ways import Ways

PROCESS = 3.0  # GiB: Python, torch with CUDA and the libraries of a trainer process
IN_FLIGHT = 4  # tensors on their way to the card at a time (transformers reads unquantised weights in four threads)
WHEEL = 0.1  # GiB: the embedded model's


@dataclass(frozen=True, slots=True)
class Footprint:
    """In GiB. `host`: resident while loading, and while a quantised base is written, file by file; the checkpoint's files are
    mapped, and the system can drop what is read."""

    parameters: int
    download: float
    disk: float
    host: float

    def as_json(self) -> dict[str, Any]:
        """The keys of `trainer plan --json`."""
        return {
            "parameters": self.parameters, "download_gib": round(self.download, 2),
            "disk_gib": round(self.disk, 2), "host_ram_gib": round(self.host, 2),
        }  # fmt: skip


def footprint(setup: Setup, checkpoint: str, name: str, rank: int, weights: int) -> Footprint:
    """Sizes by the number of parameters, the type of the published weights (`checkpoint`), and the bytes of the base's own
    (`weights`), which are kept on disk too where they are quantised and worth it."""
    model = empty_model(setup.config, "none", getattr(torch, checkpoint))
    sizes = [parameter.numel() for parameter in model.parameters()]
    each = BYTES.get(checkpoint, 4)
    download = WHEEL if name == EMBEDDED else sum(sizes) * each / GIB
    adapters = 4 * 4 * rank * sum(sum(p.shape) for p in model.parameters() if p.dim() == 2) / GIB
    kept = weights / GIB if setup.quantization != "none" and weights / GIB >= WORTH_KEEPING else 0.0
    written = min(kept, max(SHARD, 2 * max(sizes)) / GIB)  # the largest tensor, the embeddings, stays in 16 bits
    host = PROCESS + IN_FLIGHT * max(sizes) * each / GIB + written
    return Footprint(sum(sizes), download, download + adapters + kept, host)


def weight_bytes(setup: Setup) -> int:
    """Bytes of the frozen base on the card."""
    with rehearsing(setup, Ways()) as stand:
        return stand.tally.now
