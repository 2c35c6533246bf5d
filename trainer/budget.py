"""Micro-batches within a budget of tokens, which is halved when the device runs out of memory."""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from trainer.batches import Example, same_prompt, shared_batches
from trainer.world import ALONE, World

PASSES, SAMPLED = 4096, 6144  # tokens: small enough for a CPU's memory, large enough to keep it busy
LIGHTER = 4  # times: a pass that keeps nothing for a backward pass has room for so many more tokens
T = TypeVar("T")
CPU_WORDS = ("not enough memory", "can't allocate memory", "cannot allocate memory")


class Budget:
    """How many tokens a pass with gradients may have; one without, `lighter` times as many. `halvings`: how often memory ran
    out. `world`: the processes that share the rows, each within a budget of its own."""

    def __init__(self, tokens: int, share: bool, world: World = ALONE, lighter: int = LIGHTER) -> None:
        self.tokens, self.share, self.world, self.lighter, self.halvings = tokens, share, world, lighter, 0

    def each(
        self, examples: Sequence[Example], roles: int, work: Callable[[list[int]], None], *, gradients: bool
    ) -> None:
        """`work` on the indices of each micro-batch of this process's rows, `roles` blocks of which stay within the budget.

        Where memory runs out, the same micro-batch is done again in smaller parts, so `work` must not have kept anything of
        a failed attempt. Raises the device's own error if a single row does not fit.
        """
        waiting = deque(self.batches(examples, self.own(examples), roles, gradients=gradients))
        while waiting:
            try:
                work(waiting[0])
                waiting.popleft()
                continue
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or len(waiting[0]) == 1 or self.world.sharded:
                    raise  # of a base in parts, the other processes are in the middle of the same pass
            # Only here, where the exception no longer holds the failed pass's tensors, is there memory to go on with.
            waiting = deque(self.smaller(examples, waiting, roles, gradients=gradients))

    def own(self, examples: Sequence[Example]) -> Sequence[int]:
        """The rows of this process: whole prompts, dealt out from the one with most tokens to the one with least."""
        if self.world.size == 1:
            return range(len(examples))
        prompts = sorted(same_prompt(examples), key=lambda rows: -sum(len(examples[i]) for i in rows))
        return sorted(i for rows in self.world.own(prompts) for i in rows)

    def batches(
        self, examples: Sequence[Example], rows: Sequence[int], roles: int, *, gradients: bool
    ) -> list[list[int]]:
        """Those rows in micro-batches."""
        tokens = self.tokens if gradients else self.lighter * self.tokens
        found = shared_batches([examples[i] for i in rows], tokens // roles, self.share)
        return [[rows[i] for i in part] for part in found]

    def smaller(
        self, examples: Sequence[Example], waiting: Sequence[list[int]], roles: int, *, gradients: bool
    ) -> list[list[int]]:
        """What waits, under half the budget; the first micro-batch, which did not fit, is divided in any case."""
        failed = waiting[0]
        self.tokens, self.halvings = max(1, self.tokens // 2), self.halvings + 1
        print(f"Out of memory: going on with {self.tokens} tokens a pass.", file=sys.stderr)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        first = self.batches(examples, failed, roles, gradients=gradients)
        if len(first) == 1:
            first = [failed[: len(failed) // 2], failed[len(failed) // 2 :]]
        others = [i for rows in list(waiting)[1:] for i in rows]
        return first + self.batches(examples, others, roles, gradients=gradients)


def sampling_budget(tokens: int, world: World = ALONE) -> Budget:
    """Of prompt and answer tokens that are sampled at once: of all of them keys and values are kept, so none is lighter."""
    return Budget(tokens, share=False, world=world, lighter=1)


def where_it_fits(work: Callable[[], T], world: World) -> T | None:
    """What `work` returns, or None, in all processes, if one of them runs out of memory; all of them ask at once."""
    found: T | None = None
    try:
        found = work()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or world.sharded:
            raise
    return found if all(world.each(found is not None)) else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, on whichever device."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in CPU_WORDS)
