"""What looks odd about an answer before anybody has read it. Pure."""

import re

# Phrases with which models decline. Whether it is a refusal, and whether it is right, people say.
REFUSALS = re.compile(
    r"\b(i'?m sorry,? but|i am sorry,? but|sorry,? (?:but )?i|i (?:can'?t|cannot|can not|won'?t|will not|am unable to)"
    r"|i'?m (?:unable|not able) to|as an ai\b|as a language model|i do not have the ability|not appropriate for me)",
    re.IGNORECASE,
)
RUN = 3  # words


def refusals(text: str) -> int:
    """How many phrases of refusal it has."""
    return len(REFUSALS.findall(text.replace("’", "'")))


def repetition(text: str) -> float:
    """The share of its runs of three words that were said before; 0 if it has none."""
    words = re.findall(r"\w+", text.lower())
    runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
