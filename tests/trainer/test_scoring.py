"""Scores against one row at a time through the model's own forward."""

from pathlib import Path

import pytest
import torch

from preferences.records import Prompt, Response
from tests.trainer.make import EXAMPLES, is_one_sentence, with_adapters
from trainer.batches import Example
from trainer.models import Base, load_base
from trainer.roles import Roles, WrongAdapter
from trainer.scoring import RewardModel, last_states, raw_scores, response_example

MEAN, STD = 0.7, 2.5


@pytest.fixture(params=["llama", "t5"])
def model(request: pytest.FixtureRequest, llama_folder: Path, t5_folder: Path) -> RewardModel:
    """A reward model with random weights, of either family."""
    base = load_base(str({"llama": llama_folder, "t5": t5_folder}[request.param]), "none")
    return RewardModel(with_adapters(base, "other", "reward", heads=["reward"]), "reward", MEAN, STD, {})


def raw_score(model: RewardModel, example: Example) -> float:
    """The head on the last of the model's own hidden states, for a row that stands alone."""
    base = model.roles.base
    prompt, response = torch.tensor([example.prompt]), torch.tensor([example.response])
    with torch.no_grad(), model.roles.routed("reward"):
        if base.is_encoder_decoder:
            start = torch.tensor([[base.model.config.decoder_start_token_id]])
            out = base.model(
                input_ids=prompt, decoder_input_ids=torch.cat([start, response], 1), output_hidden_states=True
            ).decoder_hidden_states
        else:
            out = base.model(input_ids=torch.cat([prompt, response], 1), output_hidden_states=True).hidden_states
        return float(model.roles.heads["reward"](out[-1][0, -1]))


@pytest.mark.parametrize("budget", [1, 15, 1000])
def test_scores_are_the_normalised_head_at_the_last_token(model: RewardModel, budget: int) -> None:
    """In the given order and whatever stands beside a row."""
    expected = [(raw_score(model, example) - MEAN) / STD for example in EXAMPLES]
    rows: list[int] = []
    assert model.score_all(EXAMPLES, budget, rows.append) == pytest.approx(expected, abs=1e-4)
    assert sum(rows) == len(EXAMPLES)
    assert max(expected) - min(expected) > 0.1


def test_out_of_memory_in_the_middle_scores_smaller_batches(model: RewardModel) -> None:
    expected, failures, rows = model.score_all(EXAMPLES, 1000), iter([True]), []

    def fail(*_: object) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.roles.stack()[1].register_forward_hook(fail)
    assert model.score_all(EXAMPLES, 1000, rows.append) == pytest.approx(expected, abs=1e-4)
    assert sum(rows) == len(EXAMPLES) and len(rows) == 2


def test_raw_scores_and_last_states() -> None:
    states = torch.arange(24.0).view(2, 4, 3)
    found = last_states(states, torch.tensor([1, 3]))
    assert found.equal(torch.stack([states[0, 1], states[1, 3]]))


def test_stored_responses_are_scored_as_they_were_given(model: RewardModel) -> None:
    """A truncated one has no end token, and is another row than the finished one."""
    prompts = [
        Prompt("p1", [{"role": "user", "content": "Why is the sky blue?"}], "c", "train"),
        Prompt("p2", [{"role": "user", "content": "Name a fruit."}], "c", "train"),
    ]
    responses = [
        Response.make("p2", "sft", "An apple.", 0, 0, finish_reason="stop"),
        Response.make("p1", "sft", "It is the air", 0, 1, finish_reason="length"),
        Response.make("p1", "sft", "It is the air", 0, 2, finish_reason="stop"),
        Response.make("p1", "sft", "", 0, 3, finish_reason="stop"),
    ]
    base = model.roles.base
    first, second = (base.prompt_ids(prompt.messages) for prompt in prompts)
    apple, air = (base.tokenizer(text)["input_ids"] for text in ("An apple.", "It is the air"))
    end = base.tokenizer.eos_token_id
    rows = [
        Example(second, [*apple, end]), Example(first, air), Example(first, [*air, end]), Example(first, [end])
    ]  # fmt: skip
    expected = [(raw_score(model, row) - MEAN) / STD for row in rows]
    assert model.score_responses(responses, prompts, 64) == pytest.approx(expected, abs=1e-4)
    assert abs(expected[1] - expected[2]) > 1e-3


def test_an_answer_is_never_no_token(base: Base) -> None:
    assert response_example(base, [5], "", finished=False) == Example([5], [2])
    assert response_example(base, [5], "", finished=True) == Example([5], [2])
    assert response_example(base, [5], "a", finished=False).response[-1] != 2


def test_the_value_starts_on_the_scale_of_the_scores(model: RewardModel) -> None:
    model.copy_as_value("value")
    roles, batch = model.roles, model.roles.collate(EXAMPLES)
    with torch.no_grad(), roles.routed("value"):
        states = roles.response_states(batch)
        values = raw_scores(roles, "value", states, batch.lengths)
    expected = [(raw_score(model, example) - MEAN) / STD for example in EXAMPLES]
    assert values.tolist() == pytest.approx(expected, abs=1e-4)
    assert model.score_all(EXAMPLES, 100) == pytest.approx(expected, abs=1e-4)


def test_save_and_load(model: RewardModel, tmp_path: Path) -> None:
    card = {"mean": MEAN, "std": STD, "kind": "reward"}
    model.roles.save("reward", tmp_path, card)
    base = model.roles.base
    loaded = RewardModel.load(Roles(load_base(base.id, "none")), "judge", tmp_path)
    assert loaded.card == {**base.identity, **card}
    assert loaded.score_all(EXAMPLES, 100) == pytest.approx(model.score_all(EXAMPLES, 100), abs=1e-5)


@pytest.mark.parametrize(("role", "card"), [("other", {"mean": 0, "std": 1}), ("reward", {"std": 1}), ("reward", {})])
def test_what_is_no_reward_model_is_refused(
    model: RewardModel, role: str, card: dict[str, float], tmp_path: Path
) -> None:
    model.roles.save(role, tmp_path, card)
    with pytest.raises(WrongAdapter) as error:
        RewardModel.load(Roles(load_base(model.roles.base.id, "none")), "reward", tmp_path)
    assert is_one_sentence(str(error.value))
    assert "score head" in str(error.value)
