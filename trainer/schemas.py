"""What the browser must know of a worker: the options of each stage as JSON Schemas, its model, its device."""

import ast
import inspect
import os
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from trainer.check import Check
from trainer.evaluate import EvaluatePolicy
from trainer.models import default_device, default_quantization
from trainer.ppo import Ppo
from trainer.report import Report
from trainer.reward import Reward
from trainer.sft import Sft
from trainer.stage import Stage

OFFERED: dict[str, type[Stage | Report]] = {
    "sft": Sft, "reward": Reward, "ppo": Ppo, "evaluate": EvaluatePolicy, "report": Report, "check": Check,
}  # fmt: skip
# Decided by the worker or the page; `functions` would run any Python file on the worker's machine, `endpoint` reach any host.
# The command line alone compares the reports of several runs (`others`).
WITHHELD = (
    "db", "json", "out", "resume", "functions", "name", "others", "endpoint", "endpoint_model", "concurrency", "weight_clip",
)  # fmt: skip
# Asked for first; the others have defaults that rarely need another value.
MAIN = {
    "sft": ("study", "demonstrations", "epochs", "lr", "rank"),
    "reward": ("study", "include_simulated", "members", "epochs", "lr", "batch"),
    "ppo": ("study", "reward", "start", "iterations", "episodes", "beta", "lr", "max_new_tokens"),
    "evaluate": ("study", "adapter", "against", "also", "human", "reward", "prompts", "max_new_tokens"),
    "report": ("run", "prompts", "include_simulated"),
    "check": ("study", "reward", "policy", "against", "each"),
}
# Where the browser's default is another one: a policy that was trained from there answers prompts only once somebody promotes
# it, and whoever evaluates one from there wants people to compare it.
DEFAULTS = {"sample_next": False, "queue": True}
# What the page offers to choose from.
FORMATS = {
    "study": "study", "reward": "reward-model", "start": "policy", "reference": "policy", "policy": "policy",
    "against": "policy", "also": "policy", "adapter": "adapter", "run": "run",
}  # fmt: skip
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", Path: "string", NoneType: "null"}


def about(model: str, quantize: str | None, study: str | None, runs: Path) -> dict[str, Any]:
    """What a worker publishes: {"model", "quantization", "device", "memory_gib", "runs", "stages", "threads"}."""
    device = default_device()
    own = {"model": model, "quantize": quantize or default_quantization(device), "study": study}
    return {
        "model": model,
        "quantization": own["quantize"],
        "device": device.type,
        "memory_gib": torch.cuda.get_device_properties(device).total_memory / 2**30 if device.type == "cuda" else None,
        "runs": str(runs.resolve()),
        "threads": os.cpu_count(),
        "stages": {name: schema(name, kind, own) for name, kind in OFFERED.items()},
    }


def schema(name: str, kind: type[Stage | Report], own: dict[str, Any]) -> dict[str, Any]:
    """The options of a stage that may be launched from the browser. `own`: the worker's, as defaults.

    `makes_run`: whether it writes a folder of its own, which is given a name.
    """
    hints, docs = get_type_hints(kind), field_docs(kind)
    properties, required = {}, []
    for field in fields(kind):
        if field.name in WITHHELD:
            continue
        property_ = {**type_of(hints[field.name]), "description": docs[field.name], "title": field.name}
        if field.default is MISSING:
            required.append(field.name)
        else:
            default = DEFAULTS.get(field.name, own.get(field.name, field.default))
            property_["default"] = plain(default)
        if field.name in FORMATS:
            property_["format"] = FORMATS[field.name]
        if field.name in MAIN[name]:
            property_["main"] = MAIN[name].index(field.name)
        properties[field.name] = property_
    return {
        "title": name,
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "makes_run": any(field.name == "resume" for field in fields(kind)),
    }


def plain(default: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(default, tuple):
        return [plain(one) for one in default]
    return str(default) if isinstance(default, Path) else default


def type_of(hint: Any) -> dict[str, Any]:
    """{"type"} and, where there are few values, {"enum"}, of several {"items"}, of a field's type."""
    if get_origin(hint) is tuple:
        return {"type": "array", "items": type_of(get_args(hint)[0])}
    kinds: list[str] = []
    words: list[str] = []
    for choice in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(choice) is Literal:
            words += get_args(choice)
            kinds.append("string")
        else:
            kinds.append(TYPES[choice])
    found: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if words:
        found["enum"] = [*words, None] if "null" in kinds else words
    return found


def field_docs(kind: type) -> dict[str, str]:
    """What stands in quotes behind each field, those of the classes above included."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, said in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant):
                found[ast.unparse(field.target)] = inspect.cleandoc(str(said.value.value))
    return found
