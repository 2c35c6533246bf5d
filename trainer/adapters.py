"""Adapters from outside, looked at before they are used: plain LoRA in safetensors, whole, finite, of this model."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from preferences.errors import RankloopError
from trainer.models import Base

CONFIG = "adapter_config.json"
MOST_RANK = 4096
MOST_CONFIG_BYTES = 1_000_000
# What a LoRA is here; every other option of PEFT must be as in a new LoraConfig: some of them change the base's weights when
# they are loaded, run a decomposition, train other modules, or are routed in no way that is tested.
TAKEN = ("r", "lora_alpha", "target_modules", "task_type")
UNUSED = {  # said by whoever saved it, without effect on what is computed
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "peft_type", "peft_version", "revision",
}  # fmt: skip


class WrongAdapter(RankloopError):
    """The folder holds no adapter, or one that was trained on another base, quantisation or tokenizer."""


def checked_config(folder: Path) -> LoraConfig:
    """A new LoraConfig of the adapter's own size. Raises WrongAdapter for anything but plain LoRA."""
    path = folder / CONFIG
    said = read_json(path)
    if said.get("peft_type") != "LORA":
        raise WrongAdapter(f"{path} is no LoRA (peft_type {said.get('peft_type')!r}); give an adapter of this program.")
    rank, alpha, modules = said.get("r"), said.get("lora_alpha"), said.get("target_modules")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MOST_RANK:
        raise WrongAdapter(f"{path} has the rank {rank!r}, which is not from 1 to {MOST_RANK}; give another adapter.")
    if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise WrongAdapter(f"{path} has the lora_alpha {alpha!r}, which is not above 0; give another adapter.")
    named = isinstance(modules, list) and bool(modules) and all(isinstance(name, str) for name in modules)
    if not named and modules != "all-linear":  # a text is a pattern to PEFT, and a pattern can take for ever
        raise WrongAdapter(f"{path} names no target_modules; give another adapter.")
    made = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, task_type=said.get("task_type"))  # type: ignore[arg-type]
    plain = as_json(LoraConfig().to_dict())
    for name, value in said.items():
        if name not in TAKEN and name not in UNUSED and value and value != plain.get(name):
            raise WrongAdapter(
                f"{path} asks for {name} = {str(value)[:60]}, which is not plain LoRA; give another adapter."
            )
    return made


def check_template(folder: Path, card: dict[str, Any], base: Base) -> None:
    """Raises WrongAdapter if its prompts were made by a chat template that this program had for the base before."""
    how = base.earlier_template(str(card.get("tokenizer")))
    if how:
        raise WrongAdapter(f"The adapter {folder} was trained with a chat template of {base.id} {how}; train it again.")


def as_json(options: dict[str, Any]) -> dict[str, Any]:
    """As they stand in a file."""
    made: dict[str, Any] = json.loads(json.dumps(options, default=str))
    return made


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object. Raises WrongAdapter."""
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES:
            raise WrongAdapter(f"{path} is too large to be what its name says; give another adapter.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WrongAdapter(f"{path} is not valid JSON ({error}); restore it or train again.") from error
    if not isinstance(document, dict):
        raise WrongAdapter(f"{path} is not a JSON object; restore it or train again.")
    return document


def checked_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which can hold nothing else. Raises WrongAdapter if it is damaged or not finite."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise WrongAdapter(f"{path} cannot be read as safetensors ({error}); restore it or train again.") from error
    for name, tensor in state.items():
        if not torch.is_floating_point(tensor) or not bool(torch.isfinite(tensor).all()):
            raise WrongAdapter(f"{path} has values in {name} that are no numbers; train again.")
    return state


def check_shapes(path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raises WrongAdapter unless the file has each tensor of the role, of its shape, and no other."""
    for name in {*state, *expected}:
        found, wanted = state.get(name), expected.get(name)
        if found is None or wanted is None or found.shape != wanted.shape:
            raise WrongAdapter(
                f"{path} does not fit this model: {name} is {shape(found)} there and {shape(wanted)} here; load it on what "
                "it was trained on."
            )


def shape(tensor: Tensor | None) -> str:
    """In words."""
    return "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"
