"""Rewards that are Python functions, beside the learned one.

A reward function sees the conversations and the answers to them, as text, and returns one number an answer:

    def reward(prompts: list[list[Message]], responses: list[str]) -> list[float]: ...

A Message is {"role": "system" | "user" | "assistant", "content": text}. A command names it as `file.py:function` or
`module:function`, with `=weight` behind it if its weight in the sum is not 1.
"""

import importlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from preferences.errors import RankloopError
from preferences.records import Message
from trainer.world import ALONE, World


class BadReward(RankloopError):
    """A reward function cannot be found, fails, or does not return one finite number an answer."""


@dataclass(frozen=True, slots=True)
class RewardFunction:
    """A function under the name that the user gave it, and its weight in the sum."""

    name: str
    call: Callable[[list[list[Message]], list[str]], Any]
    weight: float = 1.0

    @staticmethod
    def load(text: str) -> "RewardFunction":
        """What `file.py:function`, `module:function` or either with `=weight` names. Raises BadReward."""
        name, equals, weight = text.partition("=")
        source, colon, attribute = name.rpartition(":")
        if not (colon and source and attribute.isidentifier()):
            raise BadReward(f"{text!r} names no reward function; write file.py:function or module:function.")
        function = getattr(load_module(source), attribute, None)
        if not callable(function):
            raise BadReward(f"{source} has no function {attribute!r}; name one that takes prompts and responses.")
        return RewardFunction(name, function, parse_weight(text, weight) if equals else 1.0)

    def __call__(self, prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> list[float]:
        """One finite number an answer, before the weight. Raises BadReward."""
        copies = [[dict(message) for message in prompt] for prompt in prompts]
        try:
            returned = self.call(copies, list(responses))
        except Exception as error:
            raise BadReward(f"The reward function {self.name} failed{where(error)}: {said(error)}; mend it.") from error
        return checked(self.name, returned, len(responses))


def summed(
    learned: Tensor,
    weight: float,
    functions: Sequence[RewardFunction],
    prompts: Sequence[Sequence[Message]],
    responses: Sequence[str],
    world: World = ALONE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """(B,) weight * learned + each function's weight * value, and each function's own values (B,) by name.

    `learned` (B,): normalised scores of the reward model. Of several processes the main one calls the functions, once for
    all answers: a function may be costly, compare the answers, or say something else each time.
    """
    said = world.told(lambda: {f.name: f(prompts, responses) for f in functions})
    found = {name: torch.tensor(values).to(learned) for name, values in said.items()}
    total = weight * learned
    for function in functions:
        total = total + function.weight * found[function.name]
    return total, found


def load_module(source: str) -> ModuleType:
    """The module of that dotted name, or of that file. Raises BadReward."""
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        path = Path(source).resolve()
        if not path.is_file():
            raise BadReward(f"There is no file {source}; give the path of a Python file with a reward function.")
        spec = importlib.util.spec_from_file_location(f"rankloop_reward_{path.stem}", path)
        assert spec and spec.loader, f"{path} ends in .py and is a file."
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses and pickle look there
        spec.loader.exec_module(module)
    except BadReward:
        raise
    except ModuleNotFoundError as error:
        hint = f"; write {source}.py:... for a file" if error.name == source else ""
        raise BadReward(f"The reward module {source} cannot be imported: {said(error)}{hint}.") from error
    except Exception as error:  # it is the user's code: whatever it raises
        raise BadReward(
            f"The reward module {source} cannot be imported{where(error)}: {said(error)}; mend it."
        ) from error
    return module


def parse_weight(text: str, weight: str) -> float:
    """The number behind `=`. Raises BadReward."""
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadReward(f"The weight {weight!r} in {text!r} is not a finite number; write for example =0.5.")
    return value


def checked(name: str, returned: Any, answers: int) -> list[float]:
    """What a reward function returned, as floats. Raises BadReward unless it is one finite number an answer."""
    if isinstance(returned, str | bytes | dict) or not hasattr(returned, "__iter__"):
        kind = type(returned).__name__
        raise BadReward(f"The reward function {name} returned a {kind}; return a list with one number an answer.")
    values = list(returned)
    if len(values) != answers:
        raise BadReward(
            f"The reward function {name} returned {len(values)} numbers for {answers} answers; return one an answer."
        )
    return [number(name, i, value) for i, value in enumerate(values)]


def number(name: str, i: int, value: Any) -> float:
    """One returned value as a float. Raises BadReward."""
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):  # torch raises the last one for a tensor of several numbers
        found = math.nan
    if not math.isfinite(found):
        raise BadReward(
            f"The reward function {name} returned {short(repr(value))} for answer {i + 1}; return a finite number."
        )
    return found


def where(error: BaseException) -> str:
    """File and line at which the user's code raised, if it came to run."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__ and "<" not in f.filename]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def said(error: BaseException) -> str:
    """Kind and message of an error on one line."""
    return short(f"{type(error).__name__}: {error}".removesuffix(": "))


def short(text: str, length: int = 120) -> str:
    """On one line, and cut if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
