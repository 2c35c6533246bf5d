"""The command that makes a run once more."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

ALWAYS = ("db", "model", "quantize", "study", "seed")  # also where they are the defaults, which may change
NEVER = ("json", "resume")
AGAIN = "-again"  # behind names and folders that are taken


def command_of(stage: str, config: Any, quantization: str, start: str | None = None) -> list[str]:
    """The words of a command line, with the run in another folder. `start`: the policy that a PPO run started from."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    values["quantize"] = quantization
    if start is not None:
        values["start"] = start
    out = values.get("out") or values.get("resume")
    if out is not None:
        values["out"] = Path(f"{Path(out).resolve()}{AGAIN}")
    if values.get("name"):
        values["name"] += AGAIN
    defaults = {field.name: field.default for field in fields(config)}
    words = ["trainer", stage]
    for name, value in values.items():
        if name not in NEVER and (name in ALWAYS or value != defaults[name] or defaults[name] is MISSING):
            words += option(name, value)
    return words


def option(name: str, value: Any) -> list[str]:
    """One option as the command line takes it; nothing for None."""
    flag = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list | tuple):
        return [f"--{flag}", *map(str, value)] if value else []
    return [f"--{flag}", str(value.resolve() if isinstance(value, Path) else value)]
