"""Chat templates: what is held fast, the plain one, and adapters that were trained with what there was before."""

from datetime import datetime
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from preferences.records import Study
from preferences.store import Store
from tests.families import family_tokenizer, save_family
from tests.tiny import tiny_tokenizer
from tests.trainer.fill import save_adapter
from tests.trainer.make import is_one_sentence
from trainer.adapters import WrongAdapter
from trainer.embedded import CHAT_TEMPLATE
from trainer.export import Export, export
from trainer.models import Base, load_base, short_hash
from trainer.policies import sampling_policies
from trainer.roles import Roles, lora_config
from trainer.templates import DATE, PLAIN_TEMPLATE, held, plain_template

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
CHAT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
PLAIN = "System: Be brief.\nUser: Why?\nAssistant:"


def said(base: Base) -> str:
    """The prompt."""
    found: str = base.tokenizer.decode(base.prompt_ids(MESSAGES))
    return found


def rendered(template: str) -> str:
    """What transformers makes of it."""
    found: str = tiny_tokenizer().apply_chat_template(MESSAGES, chat_template=template, tokenize=False)
    return found


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("smollm3", f"Today Date: 26 Jul 2024\n{CHAT}<think></think>"),
        ("qwen3", f"{CHAT}<think></think>"),
        ("llama", f"Today Date: 26 Jul 2024\n{CHAT}"),
        ("mistral", CHAT),
    ],
)
def test_a_template_that_asks_for_a_mode_or_the_date_says_the_same_every_day(
    family: str, prompt: str, tmp_path: Path
) -> None:
    base = load_base(str(save_family(family, tmp_path / "model")), "none")
    assert said(base) == prompt
    own = AutoTokenizer.from_pretrained(tmp_path / "model")
    asks = own.chat_template != CHAT_TEMPLATE
    assert (own.decode(own.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]) != prompt) == asks
    assert (base.template_hash != short_hash(own.chat_template)) == asks, "the hash knows what is held fast"
    base.tokenizer.save_pretrained(tmp_path / "exported")
    again = AutoTokenizer.from_pretrained(tmp_path / "exported")
    ids = again.apply_chat_template(MESSAGES, add_generation_prompt=True)["input_ids"]
    assert ids == base.prompt_ids(MESSAGES), "other programs make the same prompts"
    assert held(again.chat_template) == again.chat_template


def test_the_date_is_a_day_as_strftime_spells_it() -> None:
    assert {letter: datetime(2024, 7, 26).strftime(f"%{letter}") for letter in DATE} == DATE
    asked = "{% if strftime_now is defined %}{{ strftime_now('%A, %-d %B %Y') }}{% endif %}"
    assert rendered(held(asked)) == "Friday, 26 July 2024" != rendered(asked)


def test_nothing_else_of_a_template_changes() -> None:
    """Blocks at the beginning of lines, and spaces before them, which transformers takes away, are still there."""
    asked = "  {% if enable_thinking %}\n think {% endif %}\n {{- messages[0]['content'] }}\n"
    assert rendered(held(asked)) == rendered(asked) == "Be brief."
    assert held(CHAT_TEMPLATE) == CHAT_TEMPLATE
    assert short_hash(CHAT_TEMPLATE) == "f950548988e50713", "what databases have of answers, and adapters, from before"


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("gpt_neox", PLAIN),
        ("bloom", PLAIN),
        ("opt", f"<|im_end|>{PLAIN}"),
        ("t5", f"{PLAIN.replace(chr(10), ' ')}<|im_end|>"),
    ],
)
def test_a_model_without_a_template_gets_a_plain_one_that_begins_and_ends_as_its_texts_do(
    family: str, prompt: str, tmp_path: Path
) -> None:
    base = load_base(str(save_family(family, tmp_path)), "none")
    assert said(base) == prompt
    assert (base.tokenizer.chat_template == PLAIN_TEMPLATE) == (prompt == PLAIN)
    assert ("\\n" in base.tokenizer.chat_template) == ("\n" in prompt), "none where the vocabulary has none"
    assert base.prompt_ids(MESSAGES).count(base.stop_ids[0]) == prompt.count("<|im_end|>")


def test_a_decoders_prompt_never_ends_the_text() -> None:
    assert "eos_token" not in plain_template(family_tokenizer("t5"), ends=False)
    assert "eos_token" in plain_template(family_tokenizer("t5"), ends=True)


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("qwen3", "whose mode and date were not held fast"),
        ("t5", "that did not begin and end as its tokenizer has texts begin and end"),
        ("opt", "that did not begin and end as its tokenizer has texts begin and end"),
    ],
)
def test_an_adapter_of_before_is_refused_with_what_differs(family: str, how: str, tmp_path: Path) -> None:
    model = save_family(family, tmp_path / "model")
    roles = Roles(load_base(str(model), "none"))
    own = AutoTokenizer.from_pretrained(model).chat_template
    roles.base.tokenizer.chat_template = own or PLAIN_TEMPLATE
    roles.add("policy", lora_config(roles.base, 4, 8))
    roles.save("policy", tmp_path / "adapter", {"kind": "sft"})
    with pytest.raises(WrongAdapter) as loading:
        Roles(load_base(str(model), "none")).load("policy", tmp_path / "adapter")
    with pytest.raises(WrongAdapter) as exporting:
        export(Export(adapter=tmp_path / "adapter", out=tmp_path / "out"))
    assert str(loading.value) == str(exporting.value)
    assert how in str(loading.value) and is_one_sentence(str(loading.value))


@pytest.mark.parametrize("family", ["mistral", "gpt_neox"])
def test_an_adapter_of_a_template_that_has_not_changed_is_taken(family: str, tmp_path: Path) -> None:
    model = save_family(family, tmp_path / "model")
    adapter = save_adapter(model, tmp_path / "adapter")
    assert Roles(load_base(str(model), "none")).load("policy", adapter)["kind"] == "sft"


def test_a_plain_base_whose_template_has_changed_is_another_policy(store: Store, study: Study, base: Base) -> None:
    """In a database that has a policy of it from before."""
    (before,) = sampling_policies(store, study, base)
    base.tokenizer.chat_template += " "
    other = store.studies.create("other", k=4)
    (after,) = sampling_policies(store, other, base)
    assert after.name == f"{before.name}-{after.id[:6]}" and after.id != before.id
    assert sampling_policies(store, study, base) == [before]
    third = store.studies.create("third", k=4)
    assert sampling_policies(store, third, base) == [after]
