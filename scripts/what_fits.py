"""The README's table "what fits on your card": PPO's largest batch by model and card, as `trainer plan` finds it.

.venv/bin/python -m scripts.what_fits [MODEL ...]
"""

import sys
from typing import Any

from trainer.models import Quantization
from trainer.plan import Plan, plans

ENOUGH = 32  # answers at once, beyond which nobody need look
CARDS = (8, 12, 16, 24, 48, 80)
MODELS = (
    "smollm2-135m", "qwen3-0.6b", "gemma-3-1b", "smollm2-1.7b", "bloomz-3b", "bloomz-7b1", "mistral-7b", "llama-3.1-8b",
    "qwen3-8b", "flan-t5-xxl", "flan-ul2", "gpt-neox-20b", "opt-iml-max-30b", "qwen3-32b",
)  # fmt: skip


def row(model: str) -> str:
    """For each card the batches in 8 and in 4 bits."""
    cells = zip(batches(model, "int8"), batches(model, "nf4"), strict=True)
    return f"| {model} | " + " | ".join(" / ".join(cell) for cell in cells) + " |"


def batches(model: str, quantize: Quantization) -> list[str]:
    """The largest batch on each card."""
    config = Plan(model=model, quantize=quantize, stages=("ppo",), limit=ENOUGH)
    return [told(planned.stages[0]) for planned in plans(config, CARDS)]


def told(plan: Any) -> str:
    """The batch, c with checkpointing, t with the value on the policy's trunk; - where it does not fit."""
    marks = "c" * plan.ways.checkpointing + "t" * (plan.ways.value == "trunk")
    return f"{plan.batch}{marks}" if plan.fits else "-"


def main() -> None:
    """Print the table."""
    print("| model | " + " | ".join(f"{card} GiB" for card in CARDS) + " |")
    print("|" + "---|" * (1 + len(CARDS)))
    for model in sys.argv[1:] or MODELS:
        print(row(model), flush=True)


if __name__ == "__main__":
    main()
