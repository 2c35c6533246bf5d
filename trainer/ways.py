"""Options of the stages that decide the memory of their steps, and which of these take less."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from trainer.optimizers import OptimizerName

StageName = Literal["sft", "sample", "reward", "ppo"]


@dataclass(frozen=True, slots=True)
class Ways:
    """`members`: of an ensemble of reward models; `top_layers`: as many as PPO trains, None for all."""

    checkpointing: bool = False
    value: Literal["adapter", "trunk"] = "adapter"
    rank: int = 16
    optimizer: OptimizerName = "adamw"
    members: int = 1
    top_layers: int | None = None

    @property
    def resident(self) -> OptimizerName:
        """The optimizer with all its states on the card, where paged ones are too as long as there is room."""
        return "adamw-8bit" if self.optimizer == "paged-adamw-8bit" else self.optimizer

    def lighter(self, stage: StageName) -> Iterator["Ways"]:
        """The same with options that take less memory: first with one of them changed, at last with all."""
        changes: list[dict[str, Any]] = []
        if stage != "sample":
            changes += [{"checkpointing": True}] if not self.checkpointing else []
            changes += [{"value": "trunk"}] if stage == "ppo" and self.value == "adapter" else []
            changes += [{"optimizer": "adamw-8bit"}] if self.optimizer == "adamw" else []
        for count in range(1, len(changes) + 1):
            for chosen in combinations(changes, count):
                yield replace(self, **{name: value for change in chosen for name, value in change.items()})

    def flags(self, before: "Ways") -> str:
        """What makes these of those on a command line."""
        flags = ["--checkpointing"] if self.checkpointing and not before.checkpointing else []
        flags += [f"--value {self.value}"] if self.value != before.value else []
        flags += [f"--optimizer {self.optimizer}"] if self.optimizer != before.optimizer else []
        return " ".join(flags)
