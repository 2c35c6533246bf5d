"""transformers' trainers in several processes: each batch is that of one process, and every process takes its share of it.

accelerate would deal out whole batches, or fill up the last one of an epoch with rows that were seen before, and the data of
a run would depend on the number of processes. Global token counts and the mean of the gradients are the trainers' own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from trainer.world import World

NOTHING = -100  # a label that is no token


@dataclass(frozen=True, slots=True)
class OwnRows:
    """A collator that takes this process's rows; one without any takes a row that teaches nothing, to go along."""

    collator: Any
    world: World

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """A batch of {"input_ids", "labels"}."""
        own = list(self.world.own(rows))
        return self.collator(own or [{**rows[0], "labels": [NOTHING] * len(rows[0]["labels"])}])


class SameOrder(Sampler[int]):
    """The main process's order of the rows."""

    def __init__(self, sampler: Any, world: World) -> None:
        self.sampler, self.world = sampler, world

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        return iter(self.world.told(lambda: list(self.sampler)))


def token_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any) -> Tensor:
    """Summed cross entropy of `labels` (rows, tokens) by the tokens of all processes. T5's own loss is a mean over the rows
    that it sees, which transformers then takes for a part of this sum."""
    logits = outputs.logits.flatten(0, 1)
    total: Tensor = nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch
    return total


def shared(trainer: Any, world: World) -> Any:
    """The same trainer for one of the processes of a world; one process alone takes it as it is."""
    if world.size == 1:
        return trainer

    class Shared(trainer):  # type: ignore[misc]
        """Whole batches in one order, and the own rows of each."""

        def get_train_dataloader(self) -> Any:
            """Not prepared by accelerate."""
            data = self._remove_unused_columns(self.train_dataset, description="training")
            return DataLoader(
                data, self.args.train_batch_size, sampler=SameOrder(self._get_train_sampler(data), world),
                collate_fn=OwnRows(self.data_collator, world),
            )  # fmt: skip

    return Shared
