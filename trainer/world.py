"""The processes of one run: whose share is what, and what all of them must know.

Only adapters and scalar heads have gradients, a few megabytes, so there is no wrapper around the model: each process works on
its share of the rows, and sums go around. Whatever is decided from them (whitening, the weight of the KL penalty, early stop,
skipped updates) then comes out the same everywhere.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from preferences.errors import RankloopError

T = TypeVar("T")


class PeerLost(RankloopError):
    """Another process of the run has ended, or cannot be reached."""


@dataclass(frozen=True, slots=True)
class World:
    """Process `rank` of `size`, and `local` of those on its host. One process alone, which asks nobody, by default.

    `sharded`: each holds a part of the base, and passes take all of them (FSDP2).
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    device: torch.device | None = None
    sharded: bool = False

    @staticmethod
    def here() -> "World":
        """The processes among which `accelerate launch` or torchrun has started this one. Raises PeerLost."""
        if launched() == 1:
            return World()
        with talking():
            state = PartialState(cpu=not torch.cuda.is_available())
        sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        return World(state.process_index, state.num_processes, state.local_process_index, state.device, sharded)

    @property
    def main(self) -> bool:
        """Whether this is the process that opens the database, writes the run's folder and prints."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the first process on its host."""
        return self.local == 0

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share: every `size`-th one."""
        return items[self.rank :: self.size]

    # -- what all must know ------------------------------------------------------------------------------------------

    def told(self, work: Callable[[], T]) -> T:
        """What `work` returns, or its RankloopError, on the main process, which alone does it; all processes ask at once."""
        if self.size == 1:
            return work()
        said: list[Any] = [None, None]
        if self.main:
            try:
                said[0] = work()
            except RankloopError as error:
                said[1] = error
        with talking():
            distributed.broadcast_object_list(said)
        if said[1] is not None:
            raise said[1]
        found: T = said[0]
        return found

    def each(self, value: T) -> list[T]:
        """The value of every process, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with talking():
            distributed.all_gather_object(found, value)
        return found

    def joined(self, found: Mapping[int, T]) -> list[T]:
        """What every process found for its own numbers, in the order of all numbers."""
        whole = {number: one for part in self.each(found) for number, one in part.items()}
        return [whole[number] for number in sorted(whole)]

    def agree(self, value: object, what: str) -> None:
        """Raises RankloopError unless all processes have the same value."""
        values = self.each(value)
        other = next((number for number, one in enumerate(values) if one != values[0]), None)
        if other is not None:
            raise RankloopError(
                f"Process {other} has another {what} than process 0 ({values[other]} and {values[0]}); give all of them the "
                "same."
            )

    # -- sums --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def add(self, *tensors: Tensor) -> None:
        """Put into each fp32 tensor, in place, the sum of what all processes have there."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self.device)
        with talking():
            distributed.all_reduce(flat)
        spread(flat, tensors)

    def summed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of what all processes have under each name; one without rows has none."""
        if self.size == 1:
            return values
        parts = self.each({name: value.detach().cpu() for name, value in values.items()})
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: torch.stack([part[name] for part in parts if name in part]).sum(0) for name in names}

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give all processes the sum of the gradients of all; one that no process has stays None."""
        if self.size == 1:
            return
        there = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        found = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in parameters]
        flat = torch.cat([there, *(gradient.float() for gradient in found)])
        with talking():
            distributed.all_reduce(flat)
        counts, *sums = torch.split(flat, [len(parameters), *(p.numel() for p in parameters)])
        for parameter, total, count in zip(parameters, sums, counts.tolist(), strict=True):  # one layout everywhere
            parameter.grad = total.view_as(parameter).to(parameter.dtype) if count else None

    @torch.no_grad()
    def align(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the main one's numbers, in place."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.float().reshape(-1) for tensor in tensors])
        with talking():
            distributed.broadcast(flat, 0)
        spread(flat, tensors)

    # -- one host ----------------------------------------------------------------------------------------------------

    @contextmanager
    def first_first(self) -> Iterator[None]:
        """Within, the first process of each host goes before its others: what it puts into the cache they find there."""
        if not self.first_here:
            self.wait()
        yield
        if self.first_here:
            self.wait()

    def wait(self) -> None:
        """For all others."""
        if self.size > 1:
            with talking():
                distributed.barrier()

    def leave(self) -> None:
        """When all is done."""
        if self.size > 1:
            distributed.destroy_process_group()

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Within, processes other than the main one print nothing; errors come out behind it."""
        if self.main:
            yield
            return
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield


ALONE = World()


def launched() -> int:
    """How many processes the launcher has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def spread(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Numbers that stand one after another, back into the tensors that they belong to."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, numbers in zip(tensors, parts, strict=True):
        tensor.copy_(numbers.view_as(tensor))


@contextmanager
def talking() -> Iterator[None]:
    """Raises PeerLost where a process cannot be talked to."""
    try:
        yield
    except RuntimeError as error:
        raise lost(error) from error


@contextmanager
def training_together() -> Iterator[None]:
    """Around another library's training; the same, where it is this that went wrong. torch has no exception for it."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in ("gloo", "nccl")):
            raise lost(error) from error
        raise


def lost(error: RuntimeError) -> PeerLost:
    """What to say of it."""
    reason = re.sub(r"^\[[^]]*\] ", "", str(error).strip().splitlines()[0]).partition(". ")[
        0
    ]  # less source file, and advice
    return PeerLost(
        f"Another process of this run has ended or cannot be reached ({reason}); look at what it said, then go on with "
        "--resume."
    )
