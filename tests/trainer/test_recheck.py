"""A reward model is known again, and a changed one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_policy, save_adapter
from tests.trainer.test_reward import fill
from trainer.evaluate import EvaluatePolicy, EvaluateReward, evaluate_policy, evaluate_reward
from trainer.models import Base, load_base
from trainer.ppo import Ppo, ppo
from trainer.recheck import FILE, recheck
from trainer.reward import Reward, reward
from trainer.roles import HEAD, Roles, WrongAdapter, read_card
from trainer.scoring import RewardModel


@pytest.fixture
def saved(store: Store, study: Study, base: Base, tmp_path: Path) -> Path:
    """The adapter of a reward run with held-out rankings."""
    fill(store, study, train=12, heldout=8)
    reward(Reward(db=store.path, out=tmp_path / "reward", rank=4, batch=4), store, base)
    return tmp_path / "reward" / "adapter"


def load(saved: Path, llama_folder: Path) -> RewardModel:
    """On a base of its own."""
    return RewardModel.load(Roles(load_base(str(llama_folder), "none")), "reward", saved)


def test_the_same_model_is_known_again(saved: Path, llama_folder: Path) -> None:
    document = json.loads((saved / FILE).read_text())
    assert len(document["examples"]) == 24 and len(document["pairs"]) == 6 * 4
    model = load(saved, llama_folder)
    scores = document["scores"]
    expected = sum(scores[better] > scores[worse] for better, worse in document["pairs"]) / 24
    assert recheck(saved, model, 4096) == pytest.approx(expected)
    assert torch.tensor(scores).std() > 0.3


@pytest.mark.parametrize("changed", [HEAD, "adapter_model.safetensors"])
def test_a_changed_one_is_refused(saved: Path, llama_folder: Path, changed: str) -> None:
    state = load_file(saved / changed)
    save_file({name: 1.3 * tensor + 0.1 for name, tensor in state.items()}, saved / changed)
    with pytest.raises(WrongAdapter, match=r"does not judge as it did .* train it again"):
        recheck(saved, load(saved, llama_folder), 4096)


def test_one_whose_kept_answers_are_gone_is_refused(saved: Path, llama_folder: Path, tmp_path: Path) -> None:
    """One that never had any (of an older version) is taken on trust."""
    (saved / FILE).unlink()
    with pytest.raises(WrongAdapter, match=r"recheck\.json is missing"):
        recheck(saved, load(saved, llama_folder), 4096)
    older = save_adapter(llama_folder, tmp_path / "older", head=True)
    assert recheck(older, load(older, llama_folder), 4096) is None


def test_the_stored_accuracy_is_reproduced(saved: Path, llama_folder: Path) -> None:
    """Also where the scores are near enough: somebody has changed the pairs."""
    document = json.loads((saved / FILE).read_text())
    assert recheck(saved, load(saved, llama_folder), 4096) == document["accuracy"] > 0.5
    (saved / FILE).write_text(json.dumps({**document, "accuracy": 0.0}))
    with pytest.raises(WrongAdapter, match="does not judge as it did"):
        recheck(saved, load(saved, llama_folder), 4096)


@pytest.mark.parametrize("what", ["evaluate reward", "evaluate policy"])
def test_no_command_judges_by_a_changed_one(
    saved: Path, store: Store, study: Study, llama_folder: Path, tmp_path: Path, what: str
) -> None:
    state = load_file(saved / HEAD)
    save_file({"weight": -state["weight"], "bias": state["bias"]}, saved / HEAD)
    base = load_base(str(llama_folder), "none")
    with pytest.raises(WrongAdapter, match="does not judge as it did"):
        if what == "evaluate reward":
            evaluate_reward(EvaluateReward(db=store.path, adapter=saved), store, base)
        else:
            adapter = save_adapter(llama_folder, tmp_path / "policy")
            add_policy(store, study, base, adapter, "tuned")
            options = EvaluatePolicy(db=store.path, adapter=adapter, against="tuned", reward=saved)
            evaluate_policy(options, store, base)


def test_where_a_reward_model_comes_from(saved: Path, base: Base) -> None:
    card = read_card(saved, base)
    assert card["heldout_accuracy"]["n"] == 8 * 4 and card["study"] == "main"
    assert {"data_hash", "comparisons", "loss", "ties", "seed", "pooling", "mean", "std", "versions"} <= card.keys()


def test_a_broken_file_is_one_sentence(saved: Path, llama_folder: Path) -> None:
    (saved / FILE).write_text("{")
    with pytest.raises(WrongAdapter, match=r"recheck\.json cannot be read"):
        recheck(saved, load(saved, llama_folder), 4096)


def test_ppo_does_not_start_on_a_changed_reward(saved: Path, store: Store, llama_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"iterations": 1, "episodes": 4, "max_new_tokens": 4, "out": tmp_path / "ppo"}
    state = load_file(saved / HEAD)
    save_file({"weight": -state["weight"], "bias": state["bias"]}, saved / HEAD)
    with pytest.raises(WrongAdapter, match="does not judge as it did"):
        ppo(Ppo(db=store.path, reward=saved, **options), store, load_base(str(llama_folder), "none"))
    assert not (tmp_path / "ppo").exists()
    assert {policy.kind for policy in store.policies.all()} <= {"base", "imported"}
