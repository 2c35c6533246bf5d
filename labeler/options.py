"""A stage's options from the browser, held against the JSON Schema that the worker published."""

import math
from collections.abc import Mapping
from typing import Any

from preferences.errors import RankloopError

TEXT_MAX = 1000
KINDS: dict[str, tuple[type, ...]] = {
    "integer": (int,), "number": (int, float), "boolean": (bool,), "string": (str,), "null": (type(None),), "array": (list,),
}  # fmt: skip


class BadOptions(RankloopError):
    """Options that the stage does not have, or values that they do not take; one sentence for each mistake."""


def completed(schema: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the schema's defaults where nothing is said. Raises BadOptions."""
    properties = schema["properties"]
    mistakes = [f"Stage {schema['title']} has no option {name!r}." for name in options if name not in properties]
    mistakes += [f"Option {name!r} is needed." for name in schema["required"] if options.get(name) in (None, "")]
    for name, value in options.items():
        if name in properties and not fits(properties[name], value):
            mistakes.append(f"Option {name!r} must be {wanted(properties[name])}, not {value!r}.")
    if mistakes:
        raise BadOptions(" ".join(mistakes))
    defaults = {name: property_["default"] for name, property_ in properties.items() if "default" in property_}
    return {**defaults, **options}


def fits(property_: Mapping[str, Any], value: Any) -> bool:
    """Whether the option takes the value; what it means for the stage, the worker finds out."""
    if "enum" in property_:
        return value in property_["enum"]
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return False
    if isinstance(value, list) and not all(fits(property_.get("items", {"enum": []}), one) for one in value):
        return False
    return any(type(value) in KINDS[kind] for kind in kinds(property_))


def kinds(property_: Mapping[str, Any]) -> list[str]:
    """The types that the option takes."""
    found = property_["type"]
    return [found] if isinstance(found, str) else list(found)


def wanted(property_: Mapping[str, Any]) -> str:
    """What the option takes, in words."""
    if "enum" in property_:
        return "one of " + ", ".join(repr(word) for word in property_["enum"] if word is not None)
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "yes or no",
        "string": "a text",
        "array": "a list",
    }
    return " or ".join(words.get(kind, "nothing") for kind in kinds(property_))
