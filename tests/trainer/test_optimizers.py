"""AdamW's states in 8 bits: what they take, that they train, and that an optimizer goes on from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_prompts, demonstrations, metrics
from tests.trainer.test_reward import fill
from trainer.checkpoints import Checkpoints
from trainer.models import Base
from trainer.optimizers import OptimizerName, optimizer_of
from trainer.ppo import Ppo, ppo
from trainer.reward import Reward, reward
from trainer.sft import Sft, sft

SHAPE = (64, 96)  # more than 4096 elements


def steps(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, count: int, seed: int) -> None:
    """So many steps against random gradients around one direction."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        parameter.grad = 1 + torch.randn(SHAPE, generator=generator)
        optimizer.step()


def test_a_gradient_that_the_fused_step_would_misread_is_a_mistake() -> None:
    parameter = nn.Parameter(torch.zeros(SHAPE))
    optimizer = optimizer_of("adamw", [{"params": [parameter], "lr": 1e-2}])
    parameter.grad = torch.randn(SHAPE[::-1]).T
    with pytest.raises(AssertionError):
        optimizer.step()
    parameter.grad = parameter.grad.contiguous()
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), -1e-2 * parameter.grad.sign())


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", ["adamw-8bit", "paged-adamw-8bit"])
def test_states_in_8_bits_step_as_those_in_32(name: OptimizerName) -> None:
    eight, whole = nn.Parameter(torch.zeros(SHAPE)), nn.Parameter(torch.zeros(SHAPE))
    made = optimizer_of(name, [{"params": [eight], "lr": 1e-2}])
    steps(made, eight, 20, 0)
    steps(optimizer_of("adamw", [{"params": [whole], "lr": 1e-2}]), whole, 20, 0)
    assert {made.state[eight][key].dtype for key in ("state1", "state2")} == {torch.uint8}
    assert float(whole.detach().mean()) < -0.05
    torch.testing.assert_close(eight, whole, rtol=0.2, atol=0.02)


@pytest.mark.parametrize("name", ["adamw", "adamw-8bit"])
def test_a_stopped_optimizer_goes_on_bit_for_bit(name: OptimizerName, tmp_path: Path) -> None:
    one, other = nn.Parameter(torch.zeros(SHAPE)), nn.Parameter(torch.zeros(SHAPE))
    first = optimizer_of(name, [{"params": [one], "lr": 1e-2}], eps=1e-5)
    steps(first, one, 3, 0)
    kept = Checkpoints(tmp_path)
    kept.save(3, {"parameter": one.detach(), "optimizer": first.state_dict()})
    steps(first, one, 3, 1)
    state = kept.newest()
    assert state is not None
    with torch.no_grad():
        other.copy_(state["parameter"])
    second = optimizer_of(name, [{"params": [other], "lr": 1e-2}], eps=1e-5)
    second.load_state_dict(state["optimizer"])
    steps(second, other, 3, 1)
    assert torch.equal(one, other)


def test_ppo_trains_with_8_bits(store: Store, study: Study, base: Base, tmp_path: Path) -> None:
    add_prompts(store, study, 4)
    functions = tmp_path / "reward.py"
    functions.write_text("def length(prompts, responses):\n    return [float(len(text)) for text in responses]\n")
    options = {
        "db": store.path, "model": base.id, "functions": (f"{functions}:length",), "episodes": 4, "max_new_tokens": 6,
        "rank": 64, "lr": 1e-3, "optimizer": "adamw-8bit",
    }  # fmt: skip
    whole = Ppo(out=tmp_path / "whole", iterations=2, **options)  # type: ignore[arg-type]
    assert ppo(whole, store, base)["iterations"] == 2
    assert all(row["skipped_updates"] == 0 for row in metrics(tmp_path / "whole"))


def eighths(optimizer: dict[str, Any]) -> float:
    """The share of an optimizer's states that are in 8 bits."""
    kept = [of.get("__bnb_optimizer_quant_state__", of) for of in optimizer["state"].values()]
    states = [of[key] for of in kept for key in ("state1", "state2")]
    return sum(state.dtype == torch.uint8 for state in states) / len(states)


def test_sft_trains_with_8_bits_and_learns(store: Store, base: Base, tmp_path: Path) -> None:
    said = [[{"role": "user", "content": "Who bakes bread?"}, {"role": "assistant", "content": "A mouse."}]]
    config = Sft(
        db=store.path, out=tmp_path / "run", demonstrations=demonstrations(tmp_path / "talk.jsonl", said), epochs=12,
        batch=1, rank=64, lr=2e-3, optimizer="adamw-8bit",
    )  # fmt: skip
    sft(config, store, base)
    losses = [row["loss"] for row in metrics(tmp_path / "run") if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]
    kept = torch.load(tmp_path / "run" / "checkpoints" / "checkpoint-12" / "optimizer.pt", weights_only=True)
    assert eighths(kept) > 0.8  # the smallest matrices have fewer elements than 8 bits are used for


def test_a_reward_model_trains_with_8_bits_and_learns(store: Store, study: Study, base: Base, tmp_path: Path) -> None:
    fill(store, study)
    config = Reward(
        db=store.path, out=tmp_path / "run", rank=64, batch=4, epochs=3, validation=0, save_every=5, lr=1e-3,
        optimizer="adamw-8bit",
    )  # fmt: skip
    assert reward(config, store, base)["train_accuracy"] > 0.9
    state = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert state is not None
    assert eighths(state["members"][0]["optimizer"]) > 0.75
