"""AdamW with its states in 32 or in 8 bits."""

from collections.abc import Iterable
from typing import Any, Literal

import bitsandbytes as bnb
import torch

OptimizerName = Literal["adamw", "adamw-8bit", "paged-adamw-8bit"]

IN_TRANSFORMERS: dict[str, str] = {
    "adamw": "adamw_torch", "adamw-8bit": "adamw_bnb_8bit", "paged-adamw-8bit": "paged_adamw_8bit",
}  # fmt: skip


def optimizer_of(name: OptimizerName, groups: Iterable[dict[str, Any]], eps: float = 1e-8) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) without weight decay over groups of parameters with their learning rates.

    In 8 bits its two states take 2 bytes a parameter instead of 8 (arXiv 2110.02861; tensors below 4096 elements stay in 32
    bits); paged ones move to the machine's memory when the card's runs out.
    """
    if name == "adamw":
        made: torch.optim.Optimizer = torch.optim.AdamW(groups, eps=eps, weight_decay=0.0, fused=True)
        made.register_step_pre_hook(check_strides)
    else:
        kind = bnb.optim.PagedAdamW8bit if name == "paged-adamw-8bit" else bnb.optim.AdamW8bit
        made = kind(groups, eps=eps, weight_decay=0.0)
    return made


def check_strides(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """On a CPU torch's fused step reads gradients as if they were contiguous, and says nothing where they are not."""
    gradients = (p.grad for group in optimizer.param_groups for p in group["params"])
    assert all(gradient is None or gradient.is_contiguous() for gradient in gradients)


def same_groups(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> bool:
    """Whether a kept state of an optimizer has as many parameters in each group as this one."""
    groups = optimizer.param_groups, state["param_groups"]
    has, had = ([len(group["params"]) for group in one] for one in groups)
    return has == had
