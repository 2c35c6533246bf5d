"""How much memory tensors hold at the most, counted by the storages that live, so that no allocator blurs it."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

REST = "activations"


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within: `now` and `peak`, bytes of storages made here that still live, and of what `parts` they were at the peak.

    `device`: count only what is there (None: everything). What a kernel allocates inside itself is not seen, so a subclass
    may say in `inside` how much that is.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.now = self.peak = 0
        self.label = REST
        self.parts: Counter[str] = Counter()
        self.parts_at_peak: Counter[str] = Counter()
        self.known: dict[int, str] = {}

    @contextmanager
    def part(self, label: str) -> Iterator[None]:
        """Within, new storages belong to this part."""
        before, self.label = self.label, label
        try:
            yield
        finally:
            self.label = before

    def restart(self) -> None:
        """Look for a new peak from here on."""
        self.peak, self.parts_at_peak = self.now, Counter(self.parts)

    def move(self, tensors: Iterable[torch.Tensor], label: str) -> None:
        """Count tensors that live already to another part."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            before = self.known.get(storage._cdata)
            if before is not None:
                self.known[storage._cdata] = label
                self.parts[before] -= storage.nbytes()
                self.parts[label] += storage.nbytes()

    def part_of(self, func: Any, args: Any, tensor: torch.Tensor) -> str:  # noqa: ARG002
        """The part that what `func` has made belongs to."""
        return self.label

    def inside(self, func: Any, args: Any) -> tuple[str, int]:  # noqa: ARG002
        """The part and the bytes of what the kernel holds while it runs, its results left out."""
        return REST, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "prim":  # a question about a tensor, which makes none
            return func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_iter((args, kwargs)) if isinstance(x, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor) and (self.device is None or tensor.device.type == self.device.type):
                self.see(tensor, given, self.part_of(func, args, tensor))
        label, size = self.inside(func, args)
        if size:
            self.reach(self.now + size, {label: size})
        return out

    def see(self, tensor: torch.Tensor, given: set[int], label: str) -> None:
        """Count a new storage, until it dies."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known or key in given:
            return
        self.known[key] = label
        self.now += size
        self.parts[label] += size
        self.reach(self.now, {})
        weakref.finalize(storage, self.forget, key, size)

    def reach(self, size: int, extra: dict[str, int]) -> None:
        """Remember the peak, and what made it up."""
        if size > self.peak:
            self.peak, self.parts_at_peak = size, self.parts + Counter(extra)

    def forget(self, key: int, size: int) -> None:
        """The storage is gone."""
        self.parts[self.known.pop(key)] -= size
        self.now -= size
