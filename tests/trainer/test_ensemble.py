"""Several reward models in one pass: what each says alone, their mean and spread, and one model of mean weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import metrics
from tests.trainer.make import EXAMPLES, close, with_adapters
from tests.trainer.test_reward import count_rows, fill
from trainer.batches import pad
from trainer.budget import Budget
from trainer.ensemble import FILE, Ensemble, averaged, load_reward, normalised
from trainer.evaluate import EvaluateReward, evaluate_reward
from trainer.experience import Answers
from trainer.judges import Judges
from trainer.lora import adapter_delta
from trainer.models import Base, load_base
from trainer.ppo import Ppo, ppo
from trainer.recheck import FILE as RECHECK
from trainer.recheck import checked_reward
from trainer.reward import Reward, reward
from trainer.roles import Roles, WrongAdapter
from trainer.scoring import RewardModel

NAMES = ["reward-0", "reward-1", "reward-2"]


@pytest.fixture(params=["llama", "t5"])
def members(request: pytest.FixtureRequest, llama_folder: Path, t5_folder: Path) -> list[RewardModel]:
    """Three random reward models on one base of either family."""
    base = load_base(str({"llama": llama_folder, "t5": t5_folder}[request.param]), "none")
    roles = with_adapters(base, *NAMES, heads=NAMES)
    return [RewardModel(roles, name, 0.1 * i, 1 + i, {}) for i, name in enumerate(NAMES)]


def test_one_pass_says_what_separate_passes_say(members: list[RewardModel]) -> None:
    """Mean, spread and the pessimistic score, from one forward of the base a micro-batch of three blocks."""
    alone = np.array([member.score_all(EXAMPLES, 10_000) for member in members])
    assert alone.std(0).min() > 0.05
    ensemble = Ensemble(members[0].roles, tuple(members), {}, pessimism=0.7)
    stack = members[0].roles.base.model
    passes: list[int] = []
    module = stack.encoder if hasattr(stack, "encoder") else stack.base_model
    module.register_forward_pre_hook(lambda _, __, given: passes.append(len(given["input_ids"])), with_kwargs=True)
    scores, spread = ensemble.judge_all(EXAMPLES, 10_000)
    assert passes == [3 * len(EXAMPLES)]
    assert spread == pytest.approx(alone.std(0).tolist(), abs=1e-4)
    assert scores == pytest.approx((alone.mean(0) - 0.7 * alone.std(0)).tolist(), abs=1e-4)
    passes.clear()
    small, _ = ensemble.judge_all(EXAMPLES, 60)
    assert small == pytest.approx(scores, abs=1e-4) and len(passes) > 1


def test_the_mean_of_the_weights_is_exact(members: list[RewardModel]) -> None:
    """Every layer changes by the mean of the members' changes; the head is the mean of the normalised heads."""
    merged = averaged(members, "mean")
    roles = merged.roles
    for layer in (module for module in roles.base.model.modules() if hasattr(module, "lora_A")):
        x = torch.randn(3, layer.in_features)
        deltas = torch.stack([adapter_delta(layer, name, x) for name in NAMES])
        assert close(adapter_delta(layer, "mean", x), deltas.mean(0), 1e-5)
    states = torch.randn(4, roles.hidden_size)
    heads = torch.stack([(roles.heads[m.role](states) - m.mean) / m.std for m in members])
    assert close(roles.heads["mean"](states), heads.mean(0), 1e-5)
    raw = merged.score_all(EXAMPLES, 1000)
    again = normalised(merged, raw).score_all(EXAMPLES, 1000)
    assert np.mean(again) == pytest.approx(0, abs=1e-5) and np.std(again) == pytest.approx(1, abs=1e-5)


def test_averaged_copies_of_one_model_are_that_model(members: list[RewardModel]) -> None:
    one = members[1]
    one.roles.copy(one.role, "twin")
    merged = averaged([one, RewardModel(one.roles, "twin", one.mean, one.std, {})], "mean")
    assert merged.score_all(EXAMPLES, 1000) == pytest.approx(one.score_all(EXAMPLES, 1000), abs=1e-4)


@pytest.fixture
def config(store: Store, study: Study, tmp_path: Path) -> dict[str, Any]:
    """Options of a short run, on an easy rule."""
    fill(store, study, train=24, heldout=8)
    return {"db": store.path, "out": tmp_path / "reward", "rank": 4, "batch": 4, "members": 3}


def fresh(llama_folder: Path) -> Roles:
    return Roles(load_base(str(llama_folder), "none"))


def test_an_ensemble_is_trained_saved_and_loaded(
    store: Store, config: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    result = reward(Reward(**config), store, base)
    folder = Path(result["adapter"])
    assert result["members"] == 3 and len(result["mean"]) == len(result["std"]) == 3
    assert len({line["role"] for line in metrics(config["out"])}) == 3
    loaded = checked_reward(fresh(llama_folder), folder, 4096, pessimism=0.5)
    assert isinstance(loaded, Ensemble) and loaded.pessimism == 0.5
    heads = [loaded.roles.heads[name].weight for name in loaded.blocks]
    assert not torch.allclose(heads[0], heads[1])  # bagging: each saw other prompts
    alone = [
        RewardModel.load(fresh(llama_folder), "one", folder / f"member-{i}").score_all(EXAMPLES, 999) for i in range(3)
    ]
    scores, spread = loaded.judge_all(EXAMPLES, 999)
    assert spread == pytest.approx(np.std(alone, 0).tolist(), abs=1e-4)
    assert scores == pytest.approx((np.mean(alone, 0) - 0.5 * np.std(alone, 0)).tolist(), abs=1e-4)
    options = EvaluateReward(db=store.path, adapter=folder, pessimism=1.0)
    found = evaluate_reward(options, store, load_base(str(llama_folder), "none"))
    assert found["members"] == 3 and found["spread"] > 0 and found["seconds_an_answer"] > 0
    assert found["accuracy"]["n"] == 8 * 4


def test_averaged_weights_are_one_adapter(store: Store, config: dict[str, Any], base: Base, llama_folder: Path) -> None:
    result = reward(Reward(**config, combine="average"), store, base)
    folder = Path(result["adapter"])
    assert not (folder / FILE).exists()
    loaded = checked_reward(fresh(llama_folder), folder, 4096)
    assert isinstance(loaded, RewardModel) and loaded.card["averaged"] == 3
    assert loaded.roles.peft is not None and loaded.roles.peft.peft_config["reward"].r == 3 * 4
    assert result["train_accuracy"] > 0.6


def test_ppo_takes_the_pessimistic_score(
    store: Store, config: dict[str, Any], base: Base, llama_folder: Path, tmp_path: Path
) -> None:
    folder = Path(reward(Reward(**config), store, base)["adapter"])
    said = []
    for c in (0.0, 2.0):
        out = tmp_path / f"ppo{c:.0f}"
        sizes: dict[str, Any] = {"iterations": 1, "episodes": 4, "max_new_tokens": 6, "sample_next": False}
        options = Ppo(db=store.path, out=out, reward=folder, pessimism=c, **sizes)
        ppo(options, store, load_base(str(llama_folder), "none"))
        said.append(metrics(out)[0])
    assert said[0]["reward/spread"] == pytest.approx(said[1]["reward/spread"]) and said[0]["reward/spread"] > 0
    expected = said[0]["reward/learned"] - 2 * said[0]["reward/spread"]
    assert said[1]["reward/learned"] == pytest.approx(expected, abs=1e-3)


def answers_of(base: Base) -> Answers:
    """EXAMPLES as a rollout."""
    _, mask = pad([example.response for example in EXAMPLES], 0, base.device)
    zeros = torch.zeros(mask.shape)
    n = len(EXAMPLES)
    return Answers([[] for _ in range(n)], EXAMPLES, [""] * n, [True] * n, mask, zeros, zeros)


def test_judging_a_rollout_is_one_pass(base: Base) -> None:
    """Reference and three members: four blocks of rows in one forward of the base."""
    roles = with_adapters(base, "sft", *NAMES, heads=NAMES)
    members = tuple(RewardModel(roles, name, 0.0, 1.0, {}) for name in NAMES)
    ensemble = Ensemble(roles, members, {}, pessimism=1.0)
    rows = count_rows(base)
    answers = answers_of(base)
    rollout = Judges(roles, "sft", None, ensemble, 1.0).judge(answers, Budget(10_000, roles.shares))
    assert rows == [4 * len(EXAMPLES)]
    scores, spread = ensemble.judge_all(EXAMPLES, 10_000)
    assert rollout.scores.tolist() == pytest.approx(scores, abs=1e-4)
    assert rollout.spread is not None and rollout.spread.tolist() == pytest.approx(spread, abs=1e-4)


def test_pessimism_takes_several(store: Store, config: dict[str, Any], base: Base, llama_folder: Path) -> None:
    folder = Path(reward(Reward(**{**config, "members": 1}), store, base)["adapter"])
    with pytest.raises(RankloopError, match="single reward model, which has no spread"):
        load_reward(fresh(llama_folder), folder, pessimism=1.0)
    with pytest.raises(RankloopError, match="pessimism must be at least 0"):
        Ppo(db=store.path, out=config["out"], reward=folder, pessimism=-1.0)


def test_a_changed_or_broken_ensemble_is_refused(
    store: Store, config: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    folder = Path(reward(Reward(**config), store, base)["adapter"])
    document = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**document, "members": document["members"][:2]}))
    with pytest.raises(WrongAdapter, match="does not judge as it did"):
        checked_reward(fresh(llama_folder), folder, 4096)
    (folder / FILE).write_text("{}")
    with pytest.raises(WrongAdapter, match=r"ensemble\.json cannot be read"):
        checked_reward(fresh(llama_folder), folder, 4096)
    (folder / FILE).write_text(json.dumps(document))
    (folder / RECHECK).unlink()
    with pytest.raises(WrongAdapter, match="is missing"):
        checked_reward(fresh(llama_folder), folder, 4096)
