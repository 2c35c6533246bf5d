"""Short ways to roles, batches, and to what plain transformers and plain PEFT make of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from trainer.batches import Batch, Example, pad
from trainer.models import Base, load_base
from trainer.roles import Roles, lora_config

# Prompts and answers of different lengths; the tiny tokenizers have more than 300 tokens.
EXAMPLES = [
    Example([20, 21, 22, 23], [40, 41, 2]),
    Example([30], [50, 51, 52, 53, 54, 55]),
    Example([60, 61, 62, 63, 64, 65, 66], [70]),
    Example([80, 81], [90, 91, 92, 2]),
    Example([100, 101, 102], [110, 111]),
    Example([120, 121, 122, 123, 124], [130, 131, 132]),
]


def randomise(roles: Roles, role: str, seed: int) -> None:
    """Weights with which the adapter, and its head, change a lot."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in roles.parameters(role):
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))


def with_adapters(base: Base, *names: str, heads: Sequence[str] = (), rank: int = 4) -> Roles:
    """Those roles, each with random weights of its own."""
    roles = Roles(base)
    for seed, name in enumerate(names):
        roles.add(name, lora_config(base, rank, 2 * rank))
        if name in heads:
            roles.add_head(name)
        randomise(roles, name, seed)
    return roles


def plain_peft(roles: Roles, folder: Path) -> PeftModel:
    """The same adapters, saved and then loaded by PEFT alone onto a base of their own."""
    names = sorted(roles.names)
    for name in names:
        roles.save(name, folder / name, {})
    model = load_base(roles.base.id, roles.base.quantization).model
    peft = PeftModel.from_pretrained(model, folder / names[0], adapter_name=names[0], is_trainable=True)
    for name in names[1:]:
        peft.load_adapter(folder / name, adapter_name=name, is_trainable=True)
    return peft.eval()


def plain_logits(model: Any, batch: Batch, rows: slice = slice(None)) -> Tensor:
    """(rows, R + 1, vocabulary) out of the model's own forward."""
    inputs = {"input_ids": batch.input_ids[rows], "attention_mask": batch.attention_mask[rows]}
    if batch.decoder_ids is not None:
        inputs["decoder_input_ids"] = batch.decoder_ids[rows]
    logits = model(**inputs, use_cache=False).logits
    picked: Tensor = logits.gather(1, batch.positions[rows, :, None].expand(-1, -1, logits.shape[-1]))
    return picked


def routed_logits(roles: Roles, batch: Batch, *blocks: str) -> Tensor:
    """(rows, R + 1, vocabulary) through the routed forward, without gradients."""
    with torch.no_grad(), roles.routed(*blocks):
        return roles.logits(roles.response_states(batch))


def classified(out: Path, pad_id: int, **options: object) -> list[float]:
    """Scores of the examples by a sequence classifier of transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(out, **options).eval()
    ids, mask = pad([example.prompt + example.response for example in EXAMPLES], pad_id, torch.device("cpu"))
    with torch.no_grad():
        found: list[float] = model(input_ids=ids, attention_mask=mask.long()).logits.squeeze(-1).tolist()
    return found


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal but for rounding, measured against the largest number."""
    return float((found - expected).detach().abs().max()) <= tolerance * max(1.0, float(expected.detach().abs().max()))


def is_one_sentence(text: str) -> bool:
    """Fit to be shown to a person: one line, a full stop, no traceback."""
    return "\n" not in text and text.endswith(".") and "Traceback" not in text


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer but the language-model head, by name; inside an adapter, the layer that it wraps."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name and "lm_head" not in name
    }
