"""Script injections by technique, one a line of the text files beside this one.

There `⏎` is a line break and `⟦202E⟧` the character of that number. Of each vector HIT becomes the call of a probe, OUT an
address of another site, OUTHOST the same without its scheme; all three name the vector's number.
"""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
TECHNIQUES = ("html", "template", "markdown", "mathml", "svg", "link", "css", "bidi", "mutation")
CHARACTER = re.compile("⟦([0-9A-F]+)⟧")
PROBE, SITE = "__hit", "evil.example"


@dataclass(frozen=True, slots=True)
class Vector:
    """An untrusted text that wants to run a script, load something, or be taken for something else."""

    number: int
    technique: str
    text: str


def vectors() -> list[Vector]:
    """All of them, in the order of TECHNIQUES."""
    found: list[Vector] = []
    for technique in TECHNIQUES:
        for line in (FOLDER / f"{technique}.txt").read_text(encoding="utf-8").split("\n"):
            if line:
                found.append(Vector(len(found), technique, armed(line, len(found))))
    return found


def armed(line: str, number: int) -> str:
    """The vector of a line."""
    text = CHARACTER.sub(lambda found: chr(int(found[1], 16)), line).replace("⏎", "\n")
    text = text.replace("OUTHOST", f"{SITE}/{number}").replace("OUT", f"https://{SITE}/{number}")
    return text.replace("HIT", f"{PROBE}({number})")
