"""Live bytes sorted by what they are for."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from trainer.live_bytes import REST, LiveBytes

aten = torch.ops.aten

WEIGHTS, ADAPTERS, OPTIMIZER, CACHE = "weights", "adapters", "optimizer", "kv_cache"
LOGITS, DEQUANTISED = "logits", "dequantisation"
PARTS = (WEIGHTS, ADAPTERS, OPTIMIZER, CACHE, REST, LOGITS, DEQUANTISED)

FUSED_ROWS = 4  # up to so many, bitsandbytes multiplies 4-bit weights as they are; beyond, that depends on the GPU


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes that live at the most, and of which part they are."""

    bytes: int
    parts: Counter[str]


class Tally(LiveBytes):  # type: ignore[no-untyped-call]
    """`vocabulary`: by which logits are known. `gpu`: count what bitsandbytes' CUDA kernels hold inside: the 32-bit
    sums of a product of bytes, a layer's weights in 16 bits (its version 0.50, backends/cuda/ops.py)."""

    def __init__(self, vocabulary: int, gpu: bool) -> None:
        super().__init__()
        self.vocabulary, self.gpu = vocabulary, gpu

    def peak_since(self) -> Peak:
        """What `restart` began."""
        return Peak(self.peak, Counter({part: size for part, size in self.parts_at_peak.items() if size}))

    def part_of(self, func: Any, args: Any, tensor: torch.Tensor) -> str:
        if self.label != REST:
            return self.label
        if is_dequantisation(func, args):
            return DEQUANTISED
        return LOGITS if tensor.dim() and tensor.shape[-1] == self.vocabulary else REST

    def inside(self, func: Any, args: Any) -> tuple[str, int]:
        if not self.gpu or getattr(func, "namespace", "") != "bitsandbytes":
            return REST, 0
        rows = args[0].numel() // args[0].shape[-1] if args and isinstance(args[0], torch.Tensor) else 0
        if func._opname == "gemm_4bit":
            count = args[2][0] * args[2][1]
            scales = 4 * count // args[4]
            return DEQUANTISED, count * args[0].element_size() + scales if rows > FUSED_ROWS else 0
        if func._opname == "int8_scaled_mm":
            return DEQUANTISED, 4 * rows * args[1].shape[0]
        return REST, 0


def is_dequantisation(func: Any, args: Any) -> bool:
    """Whether it makes numbers of a quantised weight."""
    if getattr(func, "_opname", "") in {"dequantize_4bit", "dequantize_blockwise"}:
        return True
    return func is aten._to_copy.default and args[0].dtype == torch.int8
