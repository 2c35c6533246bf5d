"""Chat templates that say the same every day: modes and dates held fast, and a plain one for models without."""

from typing import Any

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
# 26 July 2024, the date of Llama 3's templates where nobody says another, by the letters of strftime.
DATE = {
    "Y": "2024", "y": "24", "m": "07", "B": "July", "b": "Jul", "d": "26", "e": "26", "-d": "26", "j": "208", "A": "Friday",
    "a": "Fri", "H": "00", "I": "12", "M": "00", "S": "00", "p": "AM",
}  # fmt: skip
SPELLED = "".join(f" | replace('%{letter}', '{said}')" for letter, said in DATE.items())
# What stands before a template that asks for one of these: for a mode (Qwen3, SmolLM3), or for the date (Llama 3.2, SmolLM3,
# Mistral, Granite), which transformers would take from the clock.
HELD = {
    "enable_thinking": "{%- set enable_thinking = false %}",
    "strftime_now": "{%- macro strftime_now(format) %}{{ format" + SPELLED + " }}{% endmacro %}",
}

ASKED_OF_SERVERS = {"enable_thinking": False, "date_string": "26 Jul 2024"}  # whose templates are their own


def held(template: str) -> str:
    """The template without thinking and on one day for ever; one that asks for neither mode nor date as it is."""
    before = "".join(setting for name, setting in HELD.items() if name in template)
    return f"{before}\n{template}" if before and not template.startswith(before) else template


def plain_template(tokenizer: Any, ends: bool) -> str:
    """A line `Role: text` for each message, then `Assistant:`.

    It begins as the tokenizer has texts begin, OPT's with </s>, and if the prompt `ends` for itself (an encoder's), it ends
    as texts end, T5's with </s>: so they did in training. There are spaces in the place of newlines if the tokenizer has
    none, as T5's.
    """
    around = tokenizer("")["input_ids"]
    begun = tokenizer.bos_token_id is not None and around[:1] == [tokenizer.bos_token_id]
    ended = ends and tokenizer.eos_token_id is not None and around[-1:] == [tokenizer.eos_token_id]
    newlines = "\n" in tokenizer.decode(tokenizer("a\nb", add_special_tokens=False)["input_ids"])
    plain = PLAIN_TEMPLATE if newlines else PLAIN_TEMPLATE.replace("\\n", " ")
    return "{{ bos_token }}" * begun + plain + "{{ eos_token }}" * ended


def earlier(template: str) -> dict[str, str]:
    """What this program has made of such a template until November 2026, by how that differs."""
    return {
        "whose mode and date were not held fast": template.partition("\n")[2],
        "that did not begin and end as its tokenizer has texts begin and end": PLAIN_TEMPLATE,
    }
