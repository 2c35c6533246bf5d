"""The perplexity that is said when a quantised base is loaded."""

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch

from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_prompts
from tests.trainer.make import is_one_sentence
from trainer.models import Base, load_base
from trainer.perplexity import LONGEST, SENTENCES, perplexity, said_of, threshold
from trainer.sample import SampleStage
from trainer.stages import run


def test_it_is_that_of_the_tokens_one_by_one(base: Base) -> None:
    ids = base.tokenizer(SENTENCES)["input_ids"][:LONGEST]
    with torch.no_grad():
        logprobs = base.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    mean = sum(float(logprobs[i, token]) for i, token in enumerate(ids[1:])) / (len(ids) - 1)
    assert perplexity(base) == pytest.approx(2.718281828**-mean, rel=1e-4)


def test_an_encoder_decoder_is_asked_for_the_second_half(t5_base: Base) -> None:
    ids = t5_base.tokenizer(SENTENCES)["input_ids"][:LONGEST]
    half = len(ids) // 2
    start = t5_base.model.config.decoder_start_token_id
    with torch.no_grad():
        out = t5_base.model(
            input_ids=torch.tensor([ids[:half]]), decoder_input_ids=torch.tensor([[start, *ids[half:-1]]])
        ).logits[0]
    loss = torch.nn.functional.cross_entropy(out, torch.tensor(ids[half:]))
    assert perplexity(t5_base) == pytest.approx(float(loss.exp()), rel=1e-4)


def test_both_ways_of_int8_are_said(llama_folder: Path) -> None:
    base = load_base(str(llama_folder), "int8")
    said = said_of(base)
    assert is_one_sentence(said) and f"{perplexity(base):.2f}" in said and "nf4" not in said
    assert {m.state.threshold for m in base.model.modules() if isinstance(m, bnb.nn.Linear8bitLt)} == {0.0}
    with threshold(base, 6.0):
        assert f"{perplexity(base):.2f}" in said
    assert "in nf4" in said_of(load_base(str(llama_folder), "nf4"))


@pytest.mark.usefixtures("own_cache")
def test_it_is_said_when_a_stage_starts_on_a_quantised_base(
    store: Store, study: Study, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_prompts(store, study, 1)
    for index, quantize in enumerate(("nf4", "none")):
        run(SampleStage(db=store.path, model=str(llama_folder), quantize=quantize, k=2 + index, max_new_tokens=2))  # type: ignore[arg-type]
        assert ("Perplexity of" in capsys.readouterr().err) == (quantize == "nf4")


def test_outliers_that_int8_cannot_hold_are_answered_with_advice(llama_folder: Path) -> None:
    """A few channels a hundred times as large as the others take up the 8 bits of every row."""
    base = load_base(str(llama_folder), "int8")
    with torch.no_grad():
        for layer in base.model.model.layers:
            layer.post_attention_layernorm.weight.mul_(20)
            layer.post_attention_layernorm.weight[:2] *= 2000
    assert "--quantize nf4" in said_of(base)
