"""The reward model: what it learns from, that it learns, and what is saved."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from preferences.errors import RankloopError
from preferences.live import live_accuracy
from preferences.rankings import ALL_BAD
from preferences.records import Study
from preferences.rounds import GateClosed
from preferences.store import Store
from tests.trainer.fill import add_comparison, add_prompts, annotator, metrics, rank, save_adapter, state
from trainer.elements import elements
from trainer.evaluate import EvaluateReward, evaluate_reward
from trainer.models import Base, load_base
from trainer.objective import Objective, tiers_of
from trainer.ranked import Order, load_ranked
from trainer.reward import Reward, reward
from trainer.reward_loss import (
    davidson_loss,
    davidson_luce_loss,
    pairwise_loss,
    plackett_luce_loss,
    rao_kupper_loss,
)
from trainer.reward_trainer import RewardTrainer
from trainer.roles import HEAD, Roles, WrongAdapter, read_card
from trainer.runs import Run, RunExists
from trainer.scoring import RewardModel

WORDS = [
    "air",
    "bread",
    "cat",
    "door",
    "east",
    "fox",
    "green",
    "hill",
    "ink",
    "jam",
    "kite",
    "lamp",
    "moon",
    "nest",
    "oak",
]


def texts(seed: int) -> list[str]:
    """Four answers of random words; the first two end with an exclamation mark."""
    drawn = random.Random(seed)
    return [" ".join(drawn.sample(WORDS, drawn.randint(3, 6))) + mark for mark in ("!", "!", ".", ".")]


def fill(store: Store, study: Study, train: int = 24, heldout: int = 0, simulated: bool = False) -> None:
    """Comparisons whose excited answers win."""
    who = annotator(store, "robot" if simulated else "ann", simulated)
    for split, count in (("train", train), ("heldout", heldout)):
        for index, prompt in enumerate(add_prompts(store, study, count, split) if count else []):
            shown = texts(1000 * len(split) + index)
            order = random.Random(index).sample(range(4), 4)
            comparison = add_comparison(store, study, prompt, [shown[i] for i in order])
            rank(store, comparison, [[order.index(0), order.index(1)], [order.index(2), order.index(3)]], who)


@pytest.fixture
def config(store: Store, tmp_path: Path) -> dict[str, Any]:
    """Options of a short run."""
    return {"db": store.path, "out": tmp_path / "reward", "rank": 4, "batch": 4}


def count_rows(base: Base) -> list[int]:
    """The rows of each forward pass from now on."""
    rows: list[int] = []
    base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    return rows


def test_an_easy_rule_is_learned(
    store: Store, study: Study, config: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    fill(store, study, train=32, heldout=16)
    result = reward(Reward(**{**config, "epochs": 6.0, "lr": 3e-3}), store, base)
    assert (result["comparisons"], result["pairs"], result["ties"]) == (32, 32 * 4, 32 * 2)
    assert result["train_accuracy"] > 0.8
    options = EvaluateReward(db=store.path, adapter=config["out"] / "adapter")
    found = evaluate_reward(options, store, load_base(str(llama_folder), "none"))
    assert found["accuracy"]["low"] > 0.5 and found["accuracy"]["n"] == 16 * 4
    logged = [line["loss"] for line in metrics(config["out"]) if line["step"]]
    assert len(logged) == 6 * 32 / 4
    assert sum(logged[-8:]) < 0.5 * sum(logged[:8])


def test_the_adapter_learns_beside_the_probe(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """The warm start leaves the adapter alone; the epochs move it, and the base never."""
    fill(store, study, train=8)
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    ranked = load_ranked(store, study, base, "train", simulated=False)
    run = Run(config["out"])
    options = Reward(**config, lr=1e-3)
    run.start("reward", options, base)
    trainer = RewardTrainer(options, Roles(base), ranked, run)
    trainer.warm_start()
    assert trainer.head.weight.any()
    assert not any(parameter.any() for parameter in trainer.roles.parameters("reward")[1:-2:2])
    probe = trainer.head.weight.clone()
    trainer.fit()
    assert all(parameter.any() for parameter in trainer.roles.parameters("reward")[1:-2:2])
    assert not trainer.head.weight.equal(probe)
    after = {name.replace(".base_layer", ""): p for name, p in base.model.named_parameters()}
    assert all(after[name].equal(p) for name, p in before.items())


@pytest.mark.parametrize("k", [2, 3, 4])
def test_every_comparison_weighs_the_same(
    store: Store, study: Study, config: dict[str, Any], base: Base, k: int
) -> None:
    """A head that says nothing loses ln 2 a comparison, whatever K; ties have no part in it."""
    prompts = add_prompts(store, study, 4)
    for index, prompt in enumerate(prompts[:2]):
        rank(store, add_comparison(store, study, prompt, texts(index)[:k]), [[i] for i in range(k)])
    ranked = load_ranked(store, study, base, "train", simulated=False)
    trainer = RewardTrainer(Reward(**config), Roles(base), ranked, Run(config["out"]))
    assert trainer.gradients(elements(ranked, 9999))["loss"] == pytest.approx(math.log(2))
    rank(store, add_comparison(store, study, prompts[2], texts(9)), [[0], [1, 2, 3]])
    tied = load_ranked(store, study, base, "train", simulated=False)[-1:]
    assert trainer.gradients(elements(tied, 9999))["loss"] == pytest.approx(math.log(2) * 3 / 6)


@pytest.mark.parametrize("budget", [1, 100_000])
def test_a_comparisons_answers_share_their_prompts_row(
    store: Store, study: Study, config: dict[str, Any], base: Base, budget: int
) -> None:
    fill(store, study, train=6)
    ranked = load_ranked(store, study, base, "train", simulated=False)
    trainer = RewardTrainer(Reward(**config, token_budget=budget), Roles(base), ranked, Run(config["out"]))
    rows = count_rows(base)
    trainer.gradients(elements(ranked, 9999))
    assert rows == ([1] * 6 if budget == 1 else [6])


def test_micro_batches_add_up_to_the_same_gradient(
    store: Store, study: Study, config: dict[str, Any], llama_folder: Path
) -> None:
    fill(store, study, train=6)
    gradients = []
    for budget in (1, 100_000):
        base = load_base(str(llama_folder), "none")
        ranked = load_ranked(store, study, base, "train", simulated=False)
        trainer = RewardTrainer(Reward(**config, token_budget=budget), Roles(base), ranked, Run(config["out"]))
        nn.init.ones_(trainer.head.weight)
        trainer.roles.train_only("reward")
        trainer.gradients(elements(ranked, 9999))
        found = [p.grad.flatten() for p in trainer.roles.parameters("reward") if p.grad is not None]
        gradients.append(torch.cat(found))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_pairs_of_the_same_answers_run_each_once(
    store: Store, study: Study, config: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    """Six pairs of four answers: one row of a prompt and four answers, and the gradient that twelve answers would give."""
    prompt = add_prompts(store, study, 1)[0]
    shown = texts(3)
    for i in range(4):
        for j in range(i):
            rank(store, add_comparison(store, study, prompt, [shown[i], shown[j]]), [[0], [1]])
    ranked = load_ranked(store, study, base, "train", simulated=False)
    gradients, runs = [], []
    for apart in (False, True):
        fresh = load_base(str(llama_folder), "none")
        trainer = RewardTrainer(Reward(**config, centering=0.0), Roles(fresh), ranked, Run(config["out"]))
        nn.init.ones_(trainer.head.weight)
        trainer.roles.train_only("reward")
        batch = [e for r in ranked for e in elements([r], 9999)] if apart else trainer.elements
        lengths = count_tokens(fresh)
        trainer.gradients(batch)
        found = [p.grad.flatten() for p in trainer.roles.parameters("reward") if p.grad is not None]
        gradients.append(torch.cat(found))
        runs.append(sum(lengths))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    prompt_tokens = len(ranked[0].examples[0].prompt)
    answers = sum(len(response) for response in {tuple(e.response) for r in ranked for e in r.examples})
    assert runs[0] == prompt_tokens + answers
    assert runs[1] > 2 * runs[0]


def count_tokens(base: Base) -> list[int]:
    """Rows times width of each forward pass from now on."""
    sizes: list[int] = []
    base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    return sizes


@pytest.mark.parametrize(
    "asked",
    [
        {"ties": "half"}, {"ties": "davidson"}, {"ties": "rao-kupper"}, {"loss": "plackett-luce"},
        {"loss": "plackett-luce", "ties": "davidson"}, {"soft_labels": "majority", "margin": 0.2},
        {"soft_labels": "annotator-model"}, {"soft_labels": "annotator-model", "ties": "davidson"},
        {"pooling": "mean"}, {"checkpointing": True},
    ],
    ids=lambda asked: " ".join(map(str, asked.values())),
)  # fmt: skip
def test_every_loss_learns_the_easy_rule(
    store: Store, study: Study, config: dict[str, Any], base: Base, asked: dict[str, Any]
) -> None:
    fill(store, study, train=16)
    result = reward(Reward(**config, epochs=4.0, lr=3e-3, **asked), store, base)
    assert result["train_accuracy"] > 0.8
    logged = [line["loss"] for line in metrics(config["out"]) if line["step"]]
    assert sum(logged[-4:]) < sum(logged[:4])
    card = read_card(config["out"] / "adapter", base)
    assert len(card["tie_parameters"]) == int(asked.get("ties") in ("davidson", "rao-kupper"))


def test_answers_that_are_all_bad_are_pushed_below_zero(
    store: Store, study: Study, config: dict[str, Any], base: Base
) -> None:
    """They say no order, so without their weight they have no part at all."""
    fill(store, study, train=4)
    prompt = store.prompts.all("train")[0]
    bad = add_comparison(store, study, prompt, [text + " Bad." for text in texts(77)])
    store.rankings.add_imported(annotator(store), bad, [bad.items], flags={ALL_BAD: [ALL_BAD]})
    ranked = load_ranked(store, study, base, "train", simulated=False)
    (one,) = [r for r in ranked if r.all_bad]
    assert (one.all_bad, one.pairs, one.orders) == (1.0, [], [])
    asked = Reward(**config, all_bad=1.0, centering=0.0).asked()
    scores = torch.tensor([1.0, -2.0, 0.5, 0.0], requires_grad=True)
    Objective(asked, ranked, base.device).loss(scores, [one], [[0, 1, 2, 3]]).backward()
    assert scores.grad.tolist() == pytest.approx((scores.sigmoid() / 4).tolist())
    assert reward(Reward(**config), store, base)["comparisons"] == 5
    without = {**config, "out": config["out"].with_name("without"), "all_bad": 0.0}
    assert reward(Reward(**without), store, load_base(base.id, "none"))["comparisons"] == 4


def test_the_objective_is_the_losses(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """Two annotators: 0 > 1 = 2 with strength 3, and 0 > 2 > 1."""
    comparison = add_comparison(store, study, add_prompts(store, study, 1)[0], texts(1)[:3])
    a, b, c = comparison.items
    store.rankings.add_imported(annotator(store, "ann"), comparison, [[a], [b, c]], strengths=[3])
    store.rankings.add_imported(annotator(store, "ben"), comparison, [[a], [c], [b]])
    (one,) = load_ranked(store, study, base, "train", simulated=False)
    assert one.said == [(0, 1, 1.0, 0.0, 0.0, 3.0), (0, 2, 1.0, 0.0, 0.0, 3.0), (1, 2, 0.0, 0.5, 0.5, 0.0)]
    scores, rows = torch.tensor([0.9, 0.1, -0.4]), [[0, 1, 2]]

    def found(**options: Any) -> float:
        asked = Reward(**config, centering=0.0, all_bad=0.0, **options).asked()
        objective = Objective(asked, [one], base.device)
        with torch.no_grad():
            for parameter in objective.parameters:
                parameter.fill_(0.5)
            return float(objective.loss(scores, [one], rows))

    first, second = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
    said = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0.5, 0.5]])
    third = torch.full((3,), 1 / 3)
    better, worse = torch.tensor([0, 0, 2]), torch.tensor([1, 2, 1])
    share = torch.tensor([1.0, 1.0, 0.75])
    assert found() == pytest.approx(float(pairwise_loss(scores, better, worse, share, third)), rel=1e-5)
    margin = torch.tensor([0.6, 0.6, 0.0])
    expected = pairwise_loss(scores, better, worse, torch.ones(3), third, margin)
    assert found(soft_labels="majority", margin=0.2) == pytest.approx(float(expected), rel=1e-5)
    half = torch.tensor(0.5)
    expected = davidson_loss(scores, first, second, said, third, half)
    assert found(ties="davidson") == pytest.approx(float(expected), rel=1e-5)
    expected = rao_kupper_loss(scores, first, second, said, third, torch.nn.functional.softplus(half))
    assert found(ties="rao-kupper") == pytest.approx(float(expected), rel=1e-5)
    tiers, weight = torch.tensor([[0, 1, 1], [0, 2, 1]]), torch.full((2,), 1 / 4)
    expected = plackett_luce_loss(scores.expand(2, 3), tiers, weight)
    assert found(loss="plackett-luce") == pytest.approx(float(expected), rel=1e-5)
    expected = davidson_luce_loss(scores.expand(2, 3), tiers, weight, half[None])
    assert found(loss="plackett-luce", ties="davidson") == pytest.approx(float(expected), rel=1e-5)


def test_of_best_and_worst_plackett_luce_takes_the_choice_of_the_best() -> None:
    assert tiers_of(Order("a", [[2], [0, 3], [1]], ties=False), 4) == [1, 1, 0, 1]
    assert tiers_of(Order("a", [[2], [0, 3], [1]], ties=True), 5) == [1, 2, 0, 1, -1]
    assert tiers_of(Order("a", [[2], [0], [1]], ties=False), 3) == [1, 2, 0]


@pytest.mark.parametrize(
    "wrong", [{"ties": "half"}, {"ties": "rao-kupper"}, {"soft_labels": "majority"}, {"margin": 0.1}]
)
def test_plackett_luce_has_no_pairs(config: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(RankloopError, match=r"plackett-luce|loss pairs"):
        Reward(**config, loss="plackett-luce", **wrong)


def test_validation_prompts_choose_the_state(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """With a learning rate that ruins the model, the warm start is what is kept."""
    fill(store, study, train=50)
    result = reward(Reward(**config, epochs=1.0, lr=3.0, head_lr=3.0, looks=2), store, base)
    assert (result["comparisons"], result["validation"]) == (45, 5)
    looked = [line for line in metrics(config["out"]) if "validation/loss" in line]
    assert [line["step"] for line in looked] == [0, 6, 12]
    assert looked[0]["validation/loss"] < looked[1]["validation/loss"]
    saved = load_file(config["out"] / "adapter" / "adapter_model.safetensors")
    assert not any(tensor.any() for name, tensor in saved.items() if "lora_B" in name)


def test_scores_are_normalised_and_survive_a_reload(
    store: Store, study: Study, config: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    """Mean 0 and standard deviation 1 on the judged answers; the loaded model says what the trained one said."""
    fill(store, study, train=12)
    ranked = load_ranked(store, study, base, "train", simulated=False)
    run = Run(config["out"])
    options = Reward(**config, epochs=2.0)
    run.start("reward", options, base)
    trainer = RewardTrainer(options, Roles(base), ranked, run)
    trainer.train()
    raw = torch.tensor(trainer.scores(ranked))
    trainer.roles.save("reward", run.adapter, {"kind": "reward", "mean": 0.0, "std": 1.0})
    other = Roles(load_base(str(llama_folder), "none"))
    examples = [example for r in ranked for example in r.examples]
    loaded = RewardModel.load(other, "judge", run.adapter).score_all(examples, 500)
    torch.testing.assert_close(torch.tensor(loaded), raw, rtol=1e-4, atol=1e-4)

    whole = Reward(**{**config, "out": config["out"].with_name("whole")})
    result = reward(whole, store, load_base(str(llama_folder), "none"))
    model = RewardModel.load(Roles(load_base(str(llama_folder), "none")), "judge", Path(result["adapter"]))
    scores = torch.tensor(model.score_all(examples, 500))
    assert float(scores.mean()) == pytest.approx(0, abs=1e-3)
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert (model.mean, model.std) == (result["mean"], result["std"])


def test_what_a_run_leaves(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    fill(store, study, train=4)
    result = reward(Reward(**config), store, base)
    card = read_card(config["out"] / "adapter", base)
    assert {**base.identity, "kind": "reward", "comparisons": 4}.items() <= card.items()
    assert {"mean", "std", "data_hash"} <= card.keys()
    assert (config["out"] / "adapter" / HEAD).is_file()
    written = state(config["out"])
    assert (written["state"], written["train_accuracy"]) == ("finished", result["train_accuracy"])
    with pytest.raises(RunExists):
        reward(Reward(**config), store, base)


def test_the_accuracy_that_pages_show_begins_with_the_training(
    store: Store, study: Study, config: dict[str, Any], base: Base
) -> None:
    fill(store, study, train=4, heldout=3)
    result = reward(Reward(**config), store, base)
    live = live_accuracy(store, study, str((config["out"] / "adapter").resolve()))
    assert live["unscored"] == 0
    assert live["all"] == pytest.approx(result["heldout_accuracy"])


def test_a_study_s_gate_asks_for_new_rankings(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    fill(store, study, train=4)
    store.studies.edit(study, plan={"min_rankings": 5})
    with pytest.raises(GateClosed, match="has 4 rankings, and its gate asks for 5"):
        reward(Reward(**config), store, base)
    assert not config["out"].exists()


def test_people_are_not_mixed_with_simulations(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    fill(store, study, train=4, simulated=True)
    with pytest.raises(RankloopError, match=r"0 training comparisons .* need --include-simulated"):
        reward(Reward(**config), store, base)
    assert not config["out"].exists()
    assert reward(Reward(**config, include_simulated=True), store, base)["comparisons"] == 4


def test_held_out_rankings_are_not_trained_on(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    fill(store, study, train=3, heldout=5)
    assert reward(Reward(**config), store, base)["comparisons"] == 3


def test_no_rankings_at_all(store: Store, config: dict[str, Any], base: Base) -> None:
    with pytest.raises(RankloopError, match=r"has 0 training comparisons with a winner; rank more .*simulated"):
        reward(Reward(**config), store, base)
    with pytest.raises(RankloopError) as refused:
        reward(Reward(**config, include_simulated=True), store, base)
    assert "--include-simulated" not in str(refused.value)


def test_a_run_can_be_repeated(store: Store, study: Study, config: dict[str, Any], llama_folder: Path) -> None:
    fill(store, study, train=8)
    found = []
    for name in ("one", "two"):
        options = Reward(**{**config, "out": config["out"].with_name(name)})
        found.append({**reward(options, store, load_base(str(llama_folder), "none")), "adapter": ""})
    assert found[0] == found[1]


def test_ctrl_c_leaves_a_reward_model(
    store: Store, study: Study, config: dict[str, Any], base: Base, llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, study, train=8)
    gradients = RewardTrainer.gradients

    def interrupted(self: RewardTrainer, batch: list[Any]) -> dict[str, float]:
        if len(metrics(config["out"])) == 2:
            raise KeyboardInterrupt
        return gradients(self, batch)

    monkeypatch.setattr(RewardTrainer, "gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reward(Reward(**config, epochs=4.0), store, base)
    assert state(config["out"])["state"] == "interrupted"
    RewardModel.load(Roles(load_base(str(llama_folder), "none")), "judge", config["out"] / "adapter")


def test_an_adapter_without_a_head_is_no_reward_model(base: Base, tmp_path: Path, llama_folder: Path) -> None:
    with pytest.raises(WrongAdapter, match="no score head"):
        RewardModel.load(Roles(base), "judge", save_adapter(llama_folder, tmp_path / "sft"))
