"""The languages of the interface: one table of strings a language, in `labeler/strings/`."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request

STRINGS = Path(__file__).parent / "strings"
LANGUAGES = {"en": "English", "zh": "中文", "es": "Español", "ar": "العربية", "de": "Deutsch"}
RIGHT_TO_LEFT = frozenset({"ar"})
DEFAULT = "en"


@cache
def strings(language: str) -> dict[str, str]:
    """key -> text of that language."""
    table: dict[str, str] = json.loads((STRINGS / f"{language}.json").read_text(encoding="utf-8"))
    return table


def choose(wish: str | None, accept_language: str) -> str:
    """The language somebody set, else the first of their browser's that there is, else English.

    `accept_language`: the header, for example "de-CH,de;q=0.9,en;q=0.8".
    """
    if wish in LANGUAGES:
        return str(wish)
    weighed = []
    for place, part in enumerate(accept_language[:500].split(",")):
        name, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), place, name.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((name for weight, _, name in sorted(weighed) if name in LANGUAGES and weight < 0), DEFAULT)


def strings_json(request: Request, wish: str | None = None) -> dict[str, Any]:
    """{"language", "direction", "strings"} for whoever asks; `wish`: the language that they set."""
    language = choose(wish, request.headers.get("accept-language", ""))
    direction = "rtl" if language in RIGHT_TO_LEFT else "ltr"
    return {"language": language, "direction": direction, "strings": strings(language)}
