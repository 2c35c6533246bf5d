"""Roles that read a lower layer, against a model that has no more layers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.store import Store
from tests.tiny import tiny_tokenizer
from tests.trainer.fill import metrics
from tests.trainer.make import EXAMPLES, close, is_one_sentence, with_adapters
from tests.trainer.test_ensemble import answers_of
from tests.trainer.test_reward import fill
from tests.trainer.test_sharing import prompts_with_prefix
from trainer.batches import Example
from trainer.budget import Budget
from trainer.ensemble import Ensemble, averaged
from trainer.evaluate import EvaluateReward, evaluate_reward
from trainer.exits import leaving, stack_of
from trainer.exits import states_of as of_layer
from trainer.judges import Judges
from trainer.learner import Learner
from trainer.learning_curve import learning_curve
from trainer.models import Base, load_base
from trainer.ppo import Ppo, ppo
from trainer.ranked import load_ranked
from trainer.recheck import checked_reward
from trainer.report import Report, options_of
from trainer.reward import Reward, reward
from trainer.reward_report import Material, curve_of
from trainer.roles import BASE, Roles, read_card
from trainer.runs import Run
from trainer.scoring import Pooling, RewardModel

FAMILIES = ("llama", "t5")
ROLES = ("policy", "value", "reward")


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, llama_folder: Path, t5_folder: Path) -> Path:
    """A tiny model of either family, with two layers."""
    return {"llama": llama_folder, "t5": t5_folder}[request.param]


def short_base(folder: Path, layers: int = 1) -> Base:
    """The same weights in a model that transformers makes with fewer layers (an encoder keeps its own)."""
    whole = load_base(str(folder), "none")
    name = "num_decoder_layers" if whole.is_encoder_decoder else "num_hidden_layers"
    kind: type[PreTrainedModel] = type(whole.model)
    model = kind.from_pretrained(folder, **{name: layers}).eval()
    model.requires_grad_(False)
    return replace(whole, model=model)


def whole_and_short(folder: Path, *names: str) -> tuple[Roles, Roles]:
    """The same random adapters and heads on the whole model, where each role reads the first layer, and on the short one."""
    whole, short = (
        with_adapters(base, *names, heads=names) for base in (load_base(str(folder), "none"), short_base(folder))
    )
    theirs = dict(whole.base.model.named_parameters())
    with torch.no_grad():
        for name, parameter in short.base.model.named_parameters():
            parameter.copy_(theirs[name])
        for name in names:
            short.heads[name].load_state_dict(whole.heads[name].state_dict())
            whole.read(name, 1)
    return whole, short


def layer_runs(roles: Roles) -> list[int]:
    """Which layer ran, from now on; numbers from 1."""
    seen: list[int] = []
    for number, layer in enumerate(roles.stack(), start=1):
        layer.register_forward_hook(lambda *_, number=number: seen.append(number))
    return seen


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_lower_layer_is_a_model_with_fewer_layers(folder: Path, pooling: Pooling) -> None:
    whole, short = whole_and_short(folder, "reward")
    card = {"pooling": pooling}
    runs = layer_runs(whole)
    found = RewardModel(whole, "reward", 0.7, 2.5, card).score_all(EXAMPLES, 15)
    assert set(runs) == {1}, "the layer above ran"
    expected = RewardModel(short, "reward", 0.7, 2.5, card).score_all(EXAMPLES, 15)
    assert found == pytest.approx(expected, abs=1e-4)
    whole.read("reward", None)
    other = RewardModel(whole, "reward", 0.7, 2.5, card).score_all(EXAMPLES, 15)
    assert max(abs(a - b) for a, b in zip(other, found, strict=True)) > 0.05
    assert set(runs) == {1, 2}


def test_several_layers_are_the_mean_of_their_states(folder: Path) -> None:
    """Each over its root mean square, then through the last norm; beside rows that read the last layer."""
    roles = with_adapters(load_base(str(folder), "none"), "reward", "policy")
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda *args: seen.append(of_layer(args[-1]).detach())) for layer in roles.stack()
    ]
    alone = states_of(roles, "reward")
    for hook in hooks:
        hook.remove()
    model = roles.base.model
    norm = model.decoder.final_layer_norm if roles.base.is_encoder_decoder else model.model.norm
    with torch.no_grad():
        mean = sum(x / x.square().mean(-1, keepdim=True).sqrt() for x in seen) / 2
        expected = norm(mean)
    roles.read("reward", [2, 1])
    assert roles.exits == {"reward": (1, 2)}
    batch = roles.collate(EXAMPLES)
    with torch.no_grad(), roles.routed("reward"):
        found = roles.response_states(batch)
    if not roles.base.is_encoder_decoder:
        expected = expected[batch.rows[:, None], batch.positions]
    kept = torch.arange(found.shape[1]) <= batch.lengths[:, None]
    assert close(found[kept], expected[kept]) and not close(states_of(roles, "reward"), alone, 0.1)
    both = states_of(roles, "policy", "reward").chunk(2)
    assert close(both[1], states_of(roles, "reward")) and close(both[0], states_of(roles, "policy"))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_several_layers_send_gradients_to_each(folder: Path, checkpointing: bool) -> None:
    """Against numbers: how far a weighted sum of the states moves with one weight of the lower and of the upper layer."""
    roles = with_adapters(load_base(str(folder), "none"), "reward")
    roles.read("reward", [1, 2])
    roles.train_only("reward")
    batch = roles.collate(EXAMPLES)
    weight = torch.linspace(-1, 1, roles.hidden_size)
    kept = (torch.arange(batch.positions.shape[1]) <= batch.lengths[:, None])[:, :, None]

    def value() -> Tensor:
        return (roles.response_states(batch) * kept * weight).sum()

    with roles.checkpointed(checkpointing), roles.routed("reward"):
        value().backward()  # type: ignore[no-untyped-call]
    for layer in roles.stack():
        b = next(p for name, p in layer.named_parameters() if "lora_B.reward" in name)
        assert b.grad is not None
        place = divmod(int(b.grad.abs().argmax()), b.shape[1])
        with torch.no_grad(), roles.routed("reward"):
            b[place] += 1e-2
            above = value()
            b[place] -= 2e-2
            slope = (above - value()) / 2e-2
            b[place] += 1e-2
        assert float(b.grad[place]) == pytest.approx(float(slope), rel=0.03)


def test_the_last_layer_is_no_lower_layer(base: Base) -> None:
    roles = with_adapters(base, "reward", heads=["reward"])
    for layer in (2, [2], None, []):
        roles.read("reward", layer)
        assert not roles.exits


def states_of(roles: Roles, *blocks: str) -> Tensor:
    """(blocks * answers, R + 1, hidden), what is beyond an answer's end at 0."""
    batch = roles.collate(EXAMPLES).repeat(len(blocks))
    with torch.no_grad(), roles.routed(*blocks):
        states = roles.response_states(batch)
    kept = torch.arange(states.shape[1]) <= batch.lengths[:, None]
    return states * kept[:, :, None]


def test_rows_that_leave_early_stand_beside_rows_that_go_on(folder: Path) -> None:
    whole, short = whole_and_short(folder, *ROLES)
    whole.read("policy", None)
    low = {role: states_of(short, role) for role in ROLES}
    high = with_adapters(load_base(str(folder), "none"), *ROLES)
    expected = {"policy": states_of(high, "policy"), "value": low["value"], "reward": low["reward"]}
    for blocks in (ROLES, ("reward", "policy"), ("value", "reward"), (BASE, "value", "policy", "reward")):
        known = expected | {BASE: states_of(high, BASE)}
        assert close(states_of(whole, *blocks), torch.cat([known[role] for role in blocks])), blocks
    assert (low["reward"] - states_of(high, "reward")).abs().max() > 0.1


def test_a_stack_that_must_run_whole_gives_the_same(folder: Path) -> None:
    """As where each process has parts of the layers, and all must put each of them together."""
    whole, _ = whole_and_short(folder, "reward")
    expected = states_of(whole, "reward")
    whole.exits.clear()
    runs = layer_runs(whole)
    with leaving(whole.base, [(1,)], whole=True):
        found = states_of(whole, "reward")
    assert set(runs) == {1, 2} and close(found, expected, 1e-6)


def test_judging_a_rollout_beside_policy_and_value(folder: Path) -> None:
    whole, short = whole_and_short(folder, *ROLES)
    whole.read("policy", None)
    reward_model = RewardModel(whole, "reward", 0.7, 2.5, {})
    answers, budget = answers_of(whole.base), Budget(10_000, whole.together)
    rollout = Judges(whole, "policy", "value", reward_model, 1.0).judge(answers, budget)
    expected = RewardModel(short, "reward", 0.7, 2.5, {}).score_all(EXAMPLES, 10_000)
    assert rollout.scores.tolist() == pytest.approx(expected, abs=1e-4)
    low = Judges(short, "policy", "value", None, 1.0).judge(answers, budget)
    assert close(rollout.answers.values, low.answers.values)
    high = with_adapters(load_base(str(folder), "none"), "policy")
    assert close(rollout.reference, Judges(high, "policy", None, None, 1.0).judge(answers, budget).reference)


def test_a_prefix_that_is_read_once_changes_nothing(llama_folder: Path) -> None:
    whole, _ = whole_and_short(llama_folder, "policy", "value")
    whole.read("policy", None)
    examples = [Example(prompt, [50, 51, 2]) for prompt in prompts_with_prefix()]
    short = [Example(example.prompt[60:], example.response) for example in examples]
    with torch.no_grad(), whole.routed("policy", "value"):
        expected = whole.response_states(whole.collate(examples).repeat(2))
        prefix = whole.read_prefix(examples[0].prompt[:60])
        found = whole.response_states(whole.collate(short).repeat(2), prefix)
    assert close(found, expected)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_beside_rows_that_go_on(folder: Path, checkpointing: bool) -> None:
    """Policy and value in one pass, as PPO's updates have them, against a pass of each alone."""
    whole, short = whole_and_short(folder, "policy", "value")
    whole.read("policy", None)
    high = with_adapters(load_base(str(folder), "none"), "policy", "value")

    def gradients(roles: Roles, role: str, *blocks: str) -> dict[str, Tensor]:
        roles.train_only(*blocks)
        batch = roles.collate(EXAMPLES).repeat(len(blocks))
        kept = torch.arange(batch.positions.shape[1]) <= batch.lengths[:, None]
        with roles.checkpointed(checkpointing), roles.routed(*blocks):
            (roles.response_states(batch) * kept[:, :, None]).square().sum().backward()
        named = dict(roles.base.model.named_parameters())
        mine = {id(parameter) for parameter in roles.parameters(role)}
        return {n: p.grad.clone() for n, p in named.items() if id(p) in mine and p.grad is not None}

    for role, alone in (("policy", high), ("value", short)):
        for parameter in whole.base.model.parameters():
            parameter.grad = None
        found, expected = gradients(whole, role, "policy", "value"), gradients(alone, role, role)
        assert expected and all(close(found[name], one) for name, one in expected.items())
        above = [one for name, one in found.items() if name not in expected]
        assert all(float(one.abs().max()) == 0 for one in above)


def test_an_exception_inside_leaves_the_model_whole(base: Base) -> None:
    roles = with_adapters(base, "policy", "reward")
    expected = states_of(roles, "policy")
    roles.read("reward", 1)
    with pytest.raises(MemoryError), roles.routed("policy", "reward"):
        raise MemoryError("no room")
    with pytest.raises(AssertionError, match="no other pass"), roles.routed("reward"), roles.routed("policy"):
        pass
    assert len(roles.stack()) == 2 and states_of(roles, "policy").equal(expected)


def test_an_exception_in_a_pass_leaves_the_model_whole(folder: Path) -> None:
    """After the first role's rows have left."""
    roles = with_adapters(load_base(str(folder), "none"), "policy", "reward")
    roles.read("reward", 1)
    expected = states_of(roles, "policy", "reward")

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    hook = roles.stack()[1].register_forward_hook(fail)
    with pytest.raises(MemoryError):
        states_of(roles, "policy", "reward")
    hook.remove()
    assert len(roles.stack()) == 2 and not any(layer._forward_hooks for layer in roles.stack())
    assert roles.route == (BASE,) and states_of(roles, "policy", "reward").equal(expected)


def test_copies_and_averages_read_what_they_were_made_from(folder: Path) -> None:
    whole, short = whole_and_short(folder, "reward-0", "reward-1")
    members = [[RewardModel(roles, f"reward-{i}", 0.1, 2.0 + i, {}) for i in range(2)] for roles in (whole, short)]
    found, expected = (averaged(some, "mean").score_all(EXAMPLES, 100) for some in members)
    assert found == pytest.approx(expected, abs=1e-4)
    found, expected = (Ensemble(some[0].roles, tuple(some), {}, 0.5).score_all(EXAMPLES, 100) for some in members)
    assert found == pytest.approx(expected, abs=1e-4)
    members[0][0].copy_as_value("value")
    assert whole.exits["value"] == (1,)


def test_the_stack_of_an_encoder_decoder_is_its_decoder() -> None:
    tokenizer = tiny_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=4, num_decoder_layers=2)
    model = T5ForConditionalGeneration(config)
    made = Base(model, tokenizer, "t5", "none", torch.device("cpu"), (2,), 0, True)
    assert stack_of(made) is model.decoder.block


@pytest.fixture
def options(store: Store, study: Study, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options of a short run on an easy rule, reading the lower layer."""
    fill(store, study, train=24, heldout=8)
    yield {"db": store.path, "out": tmp_path / "reward", "rank": 4, "batch": 4, "layer": (1,)}


@pytest.mark.parametrize("more", [{}, {"members": 2}, {"members": 2, "combine": "average"}, {"checkpointing": True}])
def test_a_run_on_a_lower_layer_is_saved_and_loaded(
    store: Store, options: dict[str, Any], llama_folder: Path, more: dict[str, Any]
) -> None:
    base = load_base(str(llama_folder), "none")
    result = reward(Reward(**options, **more, epochs=3.0, lr=3e-3), store, base)
    assert result["train_accuracy"] > 0.8
    adapter = Path(result["adapter"])
    roles = Roles(load_base(str(llama_folder), "none"))
    runs = layer_runs(roles)
    model = checked_reward(roles, adapter, 4096)
    assert set(runs) == {1} and set(roles.exits.values()) == {(1,)}
    if not more.get("members"):
        assert read_card(adapter, base)["layer"] == [1]
    found = evaluate_reward(EvaluateReward(db=store.path, adapter=adapter), store, load_base(str(llama_folder), "none"))
    assert found["accuracy"]["value"] == pytest.approx(result["heldout_accuracy"]["value"])
    for role in model.blocks:
        weights = [p for name, p in roles.base.model.named_parameters() if f"lora_B.{role}" in name]
        assert any(p.any() for p in weights[: len(weights) // 2]) and not any(
            p.any() for p in weights[len(weights) // 2 :]
        )


@pytest.mark.parametrize("more", [{}, {"value": "trunk"}, {"top_layers": 1}])
def test_ppo_on_a_reward_that_reads_a_lower_layer(
    store: Store, options: dict[str, Any], base: Base, llama_folder: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    adapter = Path(reward(Reward(**options, epochs=0.5), store, base)["adapter"])
    sizes: dict[str, Any] = {"iterations": 2, "episodes": 4, "max_new_tokens": 6, "sample_next": False, "epochs": 2}
    run = Ppo(db=store.path, out=tmp_path / "ppo", reward=adapter, **sizes, **more)
    ppo(run, store, load_base(str(llama_folder), "none"))
    assert all(line["skipped_updates"] == 0 for line in metrics(tmp_path / "ppo"))


def test_a_run_on_several_layers_is_saved_and_judges_a_rollout(
    store: Store, options: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    base = load_base(str(llama_folder), "none")
    result = reward(Reward(**{**options, "layer": (1, 2)}, epochs=3.0, lr=3e-3), store, base)
    assert result["train_accuracy"] > 0.8
    roles = Roles(load_base(str(llama_folder), "none"))
    checked_reward(roles, Path(result["adapter"]), 4096)
    assert set(roles.exits.values()) == {(1, 2)}
    sizes: dict[str, Any] = {"iterations": 2, "episodes": 4, "max_new_tokens": 6, "sample_next": False, "epochs": 2}
    run = Ppo(db=store.path, out=tmp_path / "ppo", reward=Path(result["adapter"]), **sizes)
    ppo(run, store, load_base(str(llama_folder), "none"))
    assert all(line["skipped_updates"] == 0 for line in metrics(tmp_path / "ppo"))


def test_top_layers_are_not_entered_from_below_where_the_value_leaves(base: Base) -> None:
    """States that are kept at the entrance of the top layers are not those that such a value reads."""
    roles = with_adapters(base, "policy", "value", heads=["value"])
    roles.read("value", 1)
    roles.train_only("policy", "value", top_layers=1)
    rule = Ppo(out=Path("nowhere"), reward=Path("nowhere"), epochs=2, top_layers=1).update_rule()
    judges = Judges(roles, "policy", "value", None, 1.0)
    made = Learner(judges, "value", rule, {"policy": 1e-3, "value": 1e-3}, Budget(9999, roles.together))
    assert made.trunk is None
    roles.read("value", None)
    assert Learner(judges, "value", rule, {"policy": 1e-3}, Budget(9999, roles.together)).trunk is not None


def test_a_layer_that_is_not_there_is_one_sentence(
    store: Store, options: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    with pytest.raises(RankloopError) as error:
        reward(Reward(**{**options, "layer": (1, 9)}), store, base)
    assert is_one_sentence(str(error.value)) and "from 1 to 2" in str(error.value)
    assert not (options["out"] / "config.json").exists()
    with pytest.raises(RankloopError, match="layer must be at least 1"):
        Reward(**{**options, "layer": (1, 0)})
    roles = with_adapters(load_base(str(llama_folder), "none"), "reward", heads=["reward"])
    for layer in ("first", 0, 3, True, [1, 3], [1, 1]):
        folder = options["out"].with_name(f"damaged-{layer}")
        roles.save("reward", folder, {"kind": "reward", "mean": 0.0, "std": 1.0, "layer": layer})
        with pytest.raises(RankloopError) as error:
            RewardModel.load(Roles(load_base(str(llama_folder), "none")), "reward", folder)
        assert is_one_sentence(str(error.value))


def test_the_reports_learning_curve_reads_the_runs_layer(
    store: Store, study: Study, options: dict[str, Any], llama_folder: Path
) -> None:
    base = load_base(str(llama_folder), "none")
    reward(Reward(**options, epochs=0.5), store, base)
    run = Run(options["out"])
    model = checked_reward(Roles(load_base(str(llama_folder), "none")), run.adapter, 4096)
    learned, held = (load_ranked(store, study, base, split, simulated=False) for split in ("train", "heldout"))
    found = curve_of(
        Material(model, learned, held, options_of(run.config(), Reward), Report(run=run.folder).token_budget), learned
    )
    short = Roles(short_base(llama_folder))
    expected = learning_curve(short, learned, held, "last", 1.0, 4096)
    assert [point["mean"] for point in found] == pytest.approx([point.mean for point in expected])
    assert len(model.roles.stack()) == 2
