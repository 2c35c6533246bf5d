"""The engine of PPO: how many passes, which options change what, and what it does when something goes wrong."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import pytest
import torch

from preferences.errors import RankloopError
from preferences.records import Study
from preferences.store import Store
from tests.trainer.fill import add_policy, add_prompts, metrics, save_adapter
from tests.trainer.make import EXAMPLES, close, routed_logits
from trainer import batches
from trainer.batches import Example, common_prefix, filled
from trainer.budget import LIGHTER
from trainer.live_bytes import LiveBytes
from trainer.metrics import cost
from trainer.models import Base, Quantization, load_base
from trainer.ppo import Ppo, ppo
from trainer.ppo_trainer import PpoTrainer
from trainer.roles import Roles
from trainer.runs import Run
from trainer.sharing import SharedPrefix

Make = Callable[..., PpoTrainer]


@pytest.fixture
def make(store: Store, study: Study, llama_folder: Path, t5_folder: Path, tmp_path: Path) -> Make:
    """A trainer on a tiny model with prompts, an SFT policy and a reward model."""

    def build(family: str = "llama", quantize: Quantization = "none", **options: Any) -> PpoTrainer:
        folder = {"llama": llama_folder, "t5": t5_folder}[family]
        add_prompts(store, study, 8)
        base = load_base(str(folder), quantize)
        start = store.policies.find("sft") or add_policy(
            store, study, base, save_adapter(folder, tmp_path / "sft", quantize)
        )
        judge = save_adapter(folder, tmp_path / "reward", quantize, seed=2, head=True)
        some: dict[str, Any] = {
            "iterations": 2,
            "episodes": 6,
            "minibatches": 1,
            "max_new_tokens": 8,
            "lr": 1e-3,
            "reward": judge,
        }
        config = Ppo(**{**some, "db": store.path, "out": tmp_path / f"run{len(list(tmp_path.iterdir()))}", **options})
        run = Run(config.folder)
        run.start("ppo", config, base)
        return PpoTrainer(config, base, start, run)

    return build


def prompts(trainer: PpoTrainer, store: Store) -> list[Any]:
    """The prompts of one rollout."""
    return store.prompts.all("train")[: trainer.config.episodes // trainer.config.samples]


def passes(trainer: PpoTrainer) -> list[int]:
    """The rows of each forward pass of the base from now on."""
    rows: list[int] = []
    trainer.roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    return rows


@pytest.mark.parametrize(("value", "blocks"), [("adapter", 3), ("trunk", 2)])
def test_one_forward_of_the_base_judges_a_micro_batch(make: Make, store: Store, value: str, blocks: int) -> None:
    trainer = make(value=value, token_budget=40)
    answers = trainer.sample(prompts(trainer, store))
    micro_batches = trainer.budget.batches(answers.examples, range(6), blocks, gradients=False)
    counted = passes(trainer)
    trainer.judge(answers)
    assert counted == [blocks * len(rows) for rows in micro_batches]
    assert len(counted) > 1


@pytest.mark.parametrize("samples", [1, 3])
def test_one_forward_of_encoder_and_decoder_judges_a_micro_batch(make: Make, store: Store, samples: int) -> None:
    """A row a prompt in the encoder, a row an answer in the decoder."""
    trainer = make("t5", token_budget=60, temperature=10.0, samples=samples)
    answers = trainer.sample(prompts(trainer, store))
    micro_batches = trainer.budget.batches(answers.examples, range(6), 3, gradients=False)
    model, counted = trainer.roles.base.model, {"encoder": [], "decoder": []}
    for name, rows in counted.items():
        getattr(model, name).register_forward_pre_hook(
            lambda _, __, given, rows=rows: rows.append(len(given["input_ids"])), with_kwargs=True
        )
    trainer.judge(answers)
    read = [3 * len({tuple(answers.examples[i].prompt) for i in rows}) for rows in micro_batches]
    assert counted == {"encoder": read, "decoder": [3 * len(rows) for rows in micro_batches]}
    assert len(micro_batches) > 1


def test_four_answers_to_a_prompt_are_one_row(make: Make, store: Store) -> None:
    trainer = make(samples=3)
    some = prompts(trainer, store)
    counted = passes(trainer)
    answers = trainer.sample(some)
    assert counted[0] == 2, "two prompts are read once each"
    assert counted[1] == 6, "six answers are written"
    del counted[:]
    rollout, _ = trainer.judge(answers)
    assert counted == [3 * 2]
    del counted[:]
    trainer.learner.update(rollout, trainer.targets(rollout), 0, lambda _: None)
    assert counted == [2 * 2]


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_sharing_changes_no_number(make: Make, store: Store, family: str) -> None:
    """Judging and gradients of three answers a prompt, in shared rows and in rows of their own."""
    trainer = make(family, samples=3, temperature=3.0)
    answers = trainer.sample(prompts(trainer, store))
    found = []
    shares, together = trainer.roles.shares, trainer.roles.together
    for share in (True, False):
        trainer.roles.shares, trainer.budget.share = share and shares, share and together
        rollout, _ = trainer.judge(answers)
        targets = trainer.targets(rollout)
        trainer.learner.optimizer.zero_grad()
        trainer.learner.gradients(rollout, targets, list(range(6)))
        gradients = [p.grad.clone() for p in trainer.learner.parameters if p.grad is not None]
        found.append((rollout.reference, rollout.answers.values, rollout.scores, *gradients))
    assert len(found[0]) > 20
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("budget", [60, 100_000])
@pytest.mark.parametrize("value", ["trunk", "adapter"])
@pytest.mark.parametrize("worth", [1, 10**9])
def test_micro_batches_add_up_to_the_same_gradient(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch, budget: int, value: str, worth: int
) -> None:
    """Against one backward of the mean over all tokens, of whole prompts and answers, without micro-batches."""
    trainer = make(value=value, samples=3)
    learner, rows = trainer.learner, list(range(6))
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets, examples = trainer.targets(rollout), rollout.answers.examples
    with trainer.roles.routed(*learner.blocks):
        loss, _, mask = learner.losses(rollout, targets, rows, learner.states(examples, rows, None))
        expected = torch.autograd.grad(loss / mask.sum(), learner.parameters)
    trainer.budget.tokens = budget
    monkeypatch.setattr(batches, "WORTH_A_PASS", worth)
    shared = common_prefix([example.prompt for example in examples])
    widths: list[int] = []
    trainer.roles.base.model.base_model.register_forward_pre_hook(
        lambda _, __, given: widths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    learner.gradients(rollout, targets, rows)
    assert bool(shared) == (worth == 1) and (widths[0] == shared) == (worth == 1)
    longest = max(len(example.prompt) for example in examples) - shared
    assert max(widths[1:] if shared else widths) <= longest + 3 * 7, (
        "what all begin with is read once, the last token never"
    )
    for parameter, gradient in zip(learner.parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_checkpointing_changes_no_gradient(make: Make, store: Store, quantize: Quantization) -> None:
    trainer = make(quantize=quantize)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets, found = trainer.targets(rollout), []
    for checkpointing in (False, True):
        trainer.learner.rule = replace(trainer.learner.rule, checkpointing=checkpointing)
        trainer.learner.optimizer.zero_grad()
        trainer.learner.gradients(rollout, targets, list(range(6)))
        found.append([p.grad.clone() for p in trainer.learner.parameters if p.grad is not None])
    for one, other in zip(*found, strict=True):
        assert one.equal(other)
    assert not any(layer.training for layer in trainer.roles.base.model.base_model.layers)


def test_checkpointing_holds_less_memory(make: Make, store: Store) -> None:
    """By living storages."""
    trainer = make(max_new_tokens=64, temperature=3.0)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets, peaks = trainer.targets(rollout), []
    for checkpointing in (False, True):
        trainer.learner.rule = replace(trainer.learner.rule, checkpointing=checkpointing)
        trainer.learner.optimizer.zero_grad()
        with LiveBytes() as live:
            trainer.learner.gradients(rollout, targets, list(range(6)))
        peaks.append(live.peak)
    assert peaks[1] < 0.75 * peaks[0], peaks


def test_smaller_micro_batches_hold_less_memory(make: Make, store: Store) -> None:
    trainer = make()
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets, peaks = trainer.targets(rollout), []
    for tokens in (100_000, 60):
        trainer.budget.tokens = tokens
        with LiveBytes() as live:
            trainer.learner.gradients(rollout, targets, list(range(6)))
        peaks.append(live.peak)
    assert peaks[1] < 0.5 * peaks[0], peaks


def test_out_of_memory_in_the_middle_repeats_the_micro_batch(make: Make, store: Store) -> None:
    """The gradient is that of an undisturbed pass: nothing of the failed attempt stays."""
    trainer = make()
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets, rows, found = trainer.targets(rollout), list(range(6)), []
    failures = iter([False, True, False])

    def fail(*_: object) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    for disturbed in (False, True):
        trainer.learner.optimizer.zero_grad()
        trainer.budget.tokens = 300
        hook = trainer.roles.base.model.base_model.layers[1].register_forward_hook(fail) if disturbed else None
        trainer.learner.gradients(rollout, targets, rows)
        found.append([p.grad.clone() for p in trainer.learner.parameters if p.grad is not None])
        if hook:
            hook.remove()
    assert trainer.budget.halvings == 1
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert trainer.roles.route == ("base",)


@pytest.mark.parametrize("where", ["judging", "reading", "gradients"])
def test_without_memory_for_the_common_prefix_every_row_reads_it(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The same numbers; no micro-batch becomes smaller for it."""
    trainer = make()
    monkeypatch.setattr(batches, "WORTH_A_PASS", 1)
    answers, found, reads = trainer.sample(prompts(trainer, store)), [], []
    read_prefix, gradients = Roles.read_prefix, SharedPrefix.gradients

    def failing(plain: Callable[..., Any], fails: bool) -> Callable[..., Any]:
        def method(*given: Any) -> Any:
            reads.append(fails)
            if fails:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return plain(*given)

        return method

    for fails in (False, True):
        monkeypatch.setattr(Roles, "read_prefix", failing(read_prefix, fails and where == "judging"))
        rollout, _ = trainer.judge(answers)
        monkeypatch.setattr(Roles, "read_prefix", failing(read_prefix, fails and where == "reading"))
        monkeypatch.setattr(SharedPrefix, "gradients", failing(gradients, fails and where == "gradients"))
        trainer.learner.optimizer.zero_grad()
        trainer.learner.gradients(rollout, trainer.targets(rollout), list(range(6)))
        parameters = [p.grad.clone() for p in trainer.learner.parameters if p.grad is not None]
        found.append((rollout.reference, rollout.answers.values, rollout.scores, *parameters))
    assert sum(reads) == 1 and len(reads) > 4 and trainer.budget.halvings == 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()))


def test_what_sampling_has_room_for_is_remembered(make: Make, store: Store) -> None:
    """Over the iterations, in the metrics and in the checkpoint."""
    trainer, failures = make(sample_budget=1000), iter([False, True])

    def fail(*_: object) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    trainer.roles.base.model.base_model.layers[0].register_forward_hook(fail)
    assert trainer.step(prompts(trainer, store))["val/halved_budgets"] == 1
    assert (trainer.at_once.tokens, trainer.at_once.halvings, trainer.budget.halvings) == (500, 1, 0)
    trainer.checkpoints.save(1, trainer.state_dict())
    other = make(sample_budget=1000)
    other.checkpoints = trainer.checkpoints
    other.resume()
    assert (other.at_once.tokens, other.at_once.halvings) == (500, 1)


def test_only_the_top_layers_are_trained(make: Make, store: Store) -> None:
    trainer = make(top_layers=1)
    before = {name: x.clone() for name, x in trainer.roles.base.model.state_dict().items()}
    trainer.step(prompts(trainer, store))
    changed = {name for name, x in trainer.roles.base.model.state_dict().items() if not x.equal(before[name])}
    assert changed and all("layers.1." in name for name in changed)


def test_of_an_encoder_decoder_the_top_layers_are_the_decoders(make: Make, store: Store) -> None:
    trainer = make("t5", top_layers=1, temperature=10.0)
    before = {name: x.clone() for name, x in trainer.roles.base.model.state_dict().items()}
    trainer.step(prompts(trainer, store))
    changed = {name for name, x in trainer.roles.base.model.state_dict().items() if not x.equal(before[name])}
    assert changed and all(name.startswith("decoder.block.1.") for name in changed)


@pytest.mark.parametrize("value", ["adapter", "trunk"])
def test_what_enters_the_trained_layers_is_computed_once(make: Make, store: Store, value: str) -> None:
    """Two epochs with and without the kept states: the same gradients, and the lower layer runs in the first one alone."""
    trainer = make(top_layers=1, epochs=2, samples=3, value=value)
    learner = trainer.learner
    assert learner.trunk
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets, found = trainer.targets(rollout), []
    layers = trainer.roles.base.model.base_model.layers
    runs: list[int] = []
    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda *_, number=number: runs.append(number))
    for trunk in (learner.trunk, learner.trunk, None):
        learner.trunk = trunk
        del runs[:]
        learner.optimizer.zero_grad()
        learner.gradients(rollout, targets, list(range(6)))
        found.append(([p.grad.clone() for p in learner.parameters if p.grad is not None], list(runs)))
    assert [runs for _, runs in found] == [[0, 1, 1], [1], [0, 1]]
    for gradients, _ in found[:2]:
        for one, other in zip(gradients, found[2][0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert len(layers) == len(trainer.roles.base.model.base_model.layers) == 2


@pytest.mark.parametrize("layer", [0, 1], ids=["entering", "above"])
def test_an_exception_in_a_pass_through_kept_states_leaves_the_model_whole(make: Make, layer: int) -> None:
    trainer = make(top_layers=1, epochs=2)
    roles, trunk = trainer.roles, trainer.learner.trunk
    assert trunk is not None
    batch = roles.collate(EXAMPLES)
    expected = routed_logits(roles, batch, "policy")

    def fail(*_: object) -> None:
        raise MemoryError("no room")

    hook = roles.stack()[layer].register_forward_hook(fail)
    with pytest.raises(MemoryError), roles.routed("policy"):
        trunk.response_states(batch, ["policy"], EXAMPLES, range(6))
    hook.remove()
    assert len(roles.stack()) == 2 and not any(layer._forward_pre_hooks for layer in roles.stack())
    assert routed_logits(roles, batch, "policy").equal(expected) and roles.route == ("base",)
    with torch.no_grad(), roles.routed("policy"):
        states = trunk.response_states(batch, ["policy"], EXAMPLES, range(6))
    assert close(roles.logits(states), expected)


def test_a_new_rollout_forgets_what_was_kept(make: Make, store: Store) -> None:
    trainer = make(top_layers=1, epochs=2)
    some = prompts(trainer, store)
    trainer.step(some)
    assert trainer.learner.trunk is not None
    first = dict(trainer.learner.trunk.kept)
    trainer.step(some)
    second = trainer.learner.trunk.kept
    assert first and all(second[key] is not kept for key, kept in first.items() if key in second)


def test_models_whose_layers_cannot_be_entered_do_without(make: Make, store: Store) -> None:
    trainer = make("t5", top_layers=1, epochs=2, temperature=10.0)
    assert trainer.learner.trunk is None
    assert trainer.step(prompts(trainer, store))["updates"] == 2


def test_rloo_needs_no_value(make: Make, store: Store) -> None:
    trainer = make(advantage="rloo", samples=3, epochs=2)
    counted = passes(trainer)
    said = trainer.step(prompts(trainer, store))
    assert "value" not in trainer.roles.names
    assert "loss/value_avg" not in said and said["val/explained_variance"] == 0
    assert counted[-3:] == [2 * 2, 2, 2], "reference and reward, then the policy alone, twice"
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    advantages = trainer.targets(rollout).advantages
    assert float(advantages[rollout.answers.mask].mean()) == pytest.approx(0, abs=1e-5)


def test_trunk_values_come_from_the_generation(make: Make, store: Store) -> None:
    """They are what the training pass finds, so nothing is computed twice."""
    trainer = make(value="trunk")
    torch.nn.init.normal_(trainer.roles.heads["policy"].weight, std=0.3)
    answers = trainer.sample(prompts(trainer, store))
    again, values = trainer.judges.replay("policy", "policy", answers.examples, trainer.budget)
    torch.testing.assert_close(answers.old, again, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(answers.values, values, rtol=1e-3, atol=1e-4)
    assert answers.values[answers.mask].std() > 0.1


def test_inexact_log_probabilities_are_computed_again(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a kernel depends on the batch: found out on the first rows, and then the training pass's are used."""
    trainer = make(value="trunk")
    from trainer import experience

    generate = experience.generate

    def blurred(*args: Any, **more: Any) -> Any:
        return [replace(s, logprobs=[x + 0.05 for x in s.logprobs]) for s in generate(*args, **more)]

    monkeypatch.setattr(experience, "generate", blurred)
    some = prompts(trainer, store)
    answers = trainer.sample(some)
    assert trainer.recompute
    again, _ = trainer.judges.replay("policy", None, answers.examples, trainer.budget)
    assert answers.old.equal(again)
    assert trainer.step(some)["val/ratio_off"] < 1e-4


def test_the_trial_reads_a_whole_batch_of_all_lengths(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first answers happen to be exact."""
    trainer = make(token_budget=4000, temperature=3.0)
    from trainer import experience

    generate = experience.generate

    def blurred(*args: Any, **more: Any) -> Any:
        first, *others = generate(*args, **more)
        return [first, *(replace(s, logprobs=[x + 0.05 for x in s.logprobs]) for s in others)]

    monkeypatch.setattr(experience, "generate", blurred)
    some = prompts(trainer, store)
    assert len({len(trainer.roles.base.prompt_ids(prompt.messages)) for prompt in some}) > 1
    counted = passes(trainer)
    trainer.sample(some)
    assert trainer.recompute and counted[-2:] == [6, 6], "the trial, and then all rows again"


def test_exact_ones_are_kept(make: Make, store: Store) -> None:
    trainer = make()
    trainer.sample(prompts(trainer, store))
    assert not trainer.recompute


def test_an_update_that_is_not_finite_is_skipped_and_counted(make: Make, store: Store) -> None:
    trainer = make(epochs=3)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets = trainer.targets(rollout)
    targets.advantages[0, 0] = float("nan")
    before = [p.detach().clone() for p in trainer.learner.parameters]
    report = trainer.learner.update(rollout, targets, 0, lambda _: None)
    assert (report["updates"], report["skipped_updates"]) == (3, 3)
    assert all(p.equal(q) for p, q in zip(trainer.learner.parameters, before, strict=True))
    assert all(map(math.isfinite, report.values())) and report["val/ratio_max"] > 0.9
    assert "loss/policy_avg" not in report, "There is nothing to take the mean of."


@pytest.mark.parametrize(("wanted", "updates"), [(2, 2), (4, 2), (1, 1)])
def test_the_answers_to_a_prompt_are_in_one_update(make: Make, store: Store, wanted: int, updates: int) -> None:
    """So a rollout has no more of them than prompts."""
    trainer = make(minibatches=wanted, episodes=4, samples=2)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    found = trainer.learner.minibatches(rollout, 0)
    asked = [[rollout.answers.examples[i].prompt for i in rows] for rows in found]
    assert len(found) == updates
    assert sorted(i for rows in found for i in rows) == list(range(4))
    assert all(len(set(map(tuple, rows))) == 2 // updates for rows in asked)


def test_judging_counts_what_all_prompts_begin_with(make: Make, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row has a copy of its keys and values, so two rows of three roles fit, however short they are without it."""
    monkeypatch.setattr(batches, "WORTH_A_PASS", 1)
    trainer = make()
    answers = trainer.sample(prompts(trainer, store))
    answers = replace(answers, examples=[Example([5] * 60 + one.prompt, one.response) for one in answers.examples])
    trainer.budget.tokens = 2 * 3 * max(map(len, answers.examples)) // LIGHTER + 1
    counted = passes(trainer)
    trainer.judge(answers)
    assert counted == [3, 6, 6, 6], "first the beginning itself, once for each role"


def test_updates_are_as_even_as_the_prompts_allow(make: Make, store: Store) -> None:
    trainer = make(minibatches=4, epochs=2)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    found = trainer.learner.minibatches(rollout, 0)
    assert [len(rows) for rows in found] == [2, 2, 1, 1] * 2
    assert (
        sorted(i for rows in found[:4] for i in rows) == sorted(i for rows in found[4:] for i in rows) == list(range(6))
    )


def test_the_head_runs_on_response_tokens_alone(make: Make, store: Store) -> None:
    """Of the reference when judging and of the policy when training; the value and the reward need no logits."""
    trainer = make()
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    tokens, counted = int(rollout.answers.mask.sum()), []
    head = trainer.roles.base.model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, args: counted.append(args[0].shape[:-1].numel()))
    trainer.judge(rollout.answers)
    assert sum(counted) == tokens
    counted.clear()
    trainer.learner.gradients(rollout, trainer.targets(rollout), list(range(6)))
    assert sum(counted) == tokens


def test_what_is_looked_at_has_the_kl_of_the_training_pass(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the generation's log-probabilities are not exact."""
    trainer = make()
    exact = [row["kl"] for row in trainer.look(prompts(trainer, store))]
    draw = trainer.draw

    def rough(*args: Any, **more: Any) -> Any:
        answers = draw(*args, **more)
        return replace(answers, old=answers.old + 1)

    monkeypatch.setattr(trainer, "draw", rough)
    trainer.recompute = True
    assert [row["kl"] for row in trainer.look(prompts(trainer, store))] == pytest.approx(exact, abs=1e-3)


def test_one_skipped_update_is_not_in_the_means_of_the_others(make: Make, store: Store) -> None:
    trainer = make(minibatches=2)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    targets = trainer.targets(rollout)
    first, second = trainer.learner.minibatches(rollout, 0)
    targets.advantages[second[0], 0] = float("inf")
    alone = trainer.learner.gradients(rollout, targets, first)
    report = trainer.learner.update(rollout, targets, 0, lambda _: None)
    assert (report["updates"], report["skipped_updates"]) == (2, 1)
    assert all(map(math.isfinite, report.values()))
    for name in ("loss/policy_avg", "loss/value_avg", "policy/entropy_avg", "val/ratio"):
        assert report[name] == alone[name]


def test_a_ratio_beyond_belief_is_skipped(make: Make, store: Store) -> None:
    trainer = make()
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    far = replace(rollout, answers=replace(rollout.answers, old=rollout.answers.old - 3))
    before = [p.detach().clone() for p in trainer.learner.parameters]
    report = trainer.learner.update(far, trainer.targets(rollout), 0, lambda _: None)
    assert report["skipped_updates"] == 1 and report["val/ratio_max"] > 10
    assert all(p.equal(q) for p, q in zip(trainer.learner.parameters, before, strict=True))


def test_epochs_end_when_the_policy_has_moved_far_enough(make: Make, store: Store) -> None:
    trainer = make(epochs=8, stop_kl=1e-4, lr=5e-3)
    said = trainer.step(prompts(trainer, store))
    assert 1 < said["updates"] == said["epochs"] < 8
    assert make(epochs=8, lr=5e-3).step(prompts(trainer, store))["updates"] == 8


def test_beta_follows_the_kl(make: Make, store: Store) -> None:
    trainer = make(kl_target=1.0, kl_horizon=60.0, beta=0.1)
    some = prompts(trainer, store)
    first = trainer.step(some)
    assert first["beta"] == 0.1
    assert trainer.kl.beta == pytest.approx(0.1 * (1 - 0.2 * 6 / 60)), "the KL of a copy is 0, far below the target"


def test_scores_are_normalised_by_what_was_seen(make: Make, store: Store) -> None:
    trainer = make(normalise=True, beta=0.0, missing_eos_penalty=0.0, lam=1.0)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    shifted = replace(rollout, scores=100 + 7 * rollout.scores)
    returns = trainer.targets(shifted).returns[:, 0]
    expected = (rollout.scores - rollout.scores.mean()) / rollout.scores.std(correction=0)
    torch.testing.assert_close(returns, expected, rtol=1e-3, atol=1e-3)


def test_scores_are_kept_within_the_clip(make: Make, store: Store) -> None:
    """The penalty for answers that do not end comes off afterwards."""
    trainer = make(score_clip=2.0, beta=0.0, missing_eos_penalty=0.5, lam=1.0)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    scores, finished = torch.tensor([-9.0, -2.0, -1.0, 1.5, 2.5, 9.0]), [True, False] * 3
    far = replace(rollout, scores=scores, answers=replace(rollout.answers, finished=finished))
    expected = torch.tensor([-2.0, -2.5, -1.0, 1.0, 2.0, 1.5])
    torch.testing.assert_close(trainer.targets(far).returns[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_weights_of_tokens_are_put_on_their_whitened_advantages(make: Make, store: Store) -> None:
    trainer = make()
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    plain = trainer.targets(rollout)
    weights = torch.linspace(0.5, 1.5, rollout.answers.mask.numel()).view_as(rollout.answers.mask)
    found = trainer.targets(replace(rollout, answers=replace(rollout.answers, weights=weights)))
    torch.testing.assert_close(found.advantages, plain.advantages * weights)
    torch.testing.assert_close(found.returns, plain.returns)


REWARD = """
def length(prompts, responses):
    return [float(len(response)) for response in responses]
"""


def test_rewards_in_python(make: Make, store: Store, tmp_path: Path) -> None:
    """Beside the learned one, weighted, each reported; and alone, where the value starts as the policy's copy."""
    (tmp_path / "mine.py").write_text(REWARD)
    name = f"{tmp_path / 'mine.py'}:length"
    trainer = make(functions=(f"{name}=0.5",), reward_weight=2.0)
    answers = trainer.sample(prompts(trainer, store))
    learned = trainer.judges.judge(answers, trainer.budget).scores
    rollout, parts = trainer.judge(answers)
    lengths = torch.tensor([float(len(text)) for text in answers.texts])
    torch.testing.assert_close(rollout.scores, 2 * learned + 0.5 * lengths)
    assert parts == {f"reward/{name}": float(lengths.mean()), "reward/learned": float(learned.mean())}
    alone = make(functions=(name,), reward=None)
    said = alone.step(prompts(alone, store))
    assert said["objective/scores"] == said[f"reward/{name}"] > 0
    assert alone.reward is None and "value" in alone.roles.heads


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"functions": ()}, "give --reward, --functions or both"),
        ({"advantage": "rloo"}, "samples must be at least 2, not 1"),
        ({"samples": 5}, "must be a multiple of samples"),
        ({"kl_target": 1.0, "beta": 0.0}, "--kl-target steers beta, which must then be above 0"),
        ({"kl_target": 1.0, "kl_horizon": 31.0}, r"kl_horizon must be at least episodes \(32\), not 31"),
        ({"kl_horizon": 0.0}, "kl_horizon must be above 0"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    store: Store, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RankloopError, match=sentence):
        Ppo(**{"db": store.path, "out": tmp_path, "functions": ("a:b",), **options})


def test_the_kl_weight_may_move_within_a_run(tmp_path: Path) -> None:
    """By a fifth in a tenth of its episodes, and by no more in a rollout."""
    horizons = [Ppo(out=tmp_path, functions=("a:b",), iterations=n, episodes=32).horizon() for n in (1, 10, 50)]
    assert horizons == [32, 32, 160]


def test_checkpoints_are_few_and_the_run_says_what_it_cost(
    make: Make, store: Store, base: Base, tmp_path: Path
) -> None:
    trainer = make()
    config = replace(trainer.config, out=tmp_path / "whole", iterations=4, keep=2, tracker="none", name="whole")
    ppo(config, store, base)
    assert [path.name for path in (tmp_path / "whole" / "checkpoints").iterdir()] in (
        ["000003.pt", "000004.pt"], ["000004.pt", "000003.pt"],
    )  # fmt: skip
    said = metrics(tmp_path / "whole")[-1]
    assert said["seconds/total"] == pytest.approx(sum(said[f"seconds/{x}"] for x in ("generate", "score", "train")))
    assert 0 <= said["val/padding"] < 1 and said["seconds/peak_memory_mb"] > 100


def test_what_an_iteration_cost() -> None:
    """Tokens are judged once, and trained on as often as the epochs got to."""
    examples = [Example([1, 2], [3] * 4), Example([5], [3])]
    said = cost([10.0, 11.0, 13.0, 14.0], examples, 1.5, torch.device("cpu"))
    assert [said[f"seconds/{phase}"] for phase in ("generate", "score", "train", "total")] == [1, 2, 1, 4]
    assert (said["seconds/tokens_per_second"], said["eps"]) == (8 * 2.5 / 4, 2 / 4)


def test_padding_is_counted() -> None:
    examples = [Example([1, 2], [3] * 4), Example([1, 2], [3] * 2), Example([5], [3])]
    assert filled(examples, share=False) == (6 + 4 + 2, 3 * 6)
    assert filled(examples, share=True) == (8 + 2, 2 * 8)


@pytest.mark.parametrize("worth", [1, 10**9])
def test_the_padding_is_that_of_what_updates_read(
    make: Make, store: Store, monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    """By the masks of the training passes; what all prompts share is no part of the rows if it is read once."""
    trainer = make(token_budget=400)
    monkeypatch.setattr(batches, "WORTH_A_PASS", worth)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    collate, made = trainer.roles.collate, []
    monkeypatch.setattr(trainer.roles, "collate", lambda examples: made.append(collate(examples)) or made[-1])
    report = trainer.learner.update(rollout, trainer.targets(rollout), 0, lambda _: None)
    read = [batch.attention_mask for batch in made[::2]]  # the others are for the losses
    assert len(read) > 1
    real, padded = sum(int(mask.sum()) for mask in read), sum(mask.numel() for mask in read)
    assert report["val/padding"] == pytest.approx(1 - real / padded) and real < padded


def test_ratios_against_slow_loops(make: Make, store: Store) -> None:
    """Their mean, largest, variance and first error, of a policy that has moved, in micro-batches."""
    trainer = make(token_budget=80)
    rollout, _ = trainer.judge(trainer.sample(prompts(trainer, store)))
    shift = torch.linspace(-0.3, 0.2, rollout.answers.old.numel()).view_as(rollout.answers.old)
    moved = replace(rollout, answers=replace(rollout.answers, old=rollout.answers.old + shift))
    report = trainer.learner.update(moved, trainer.targets(rollout), 0, lambda _: None)
    ratios = (-shift).exp()[rollout.answers.mask].tolist()
    assert report["val/ratio"] == pytest.approx(fmean(ratios), abs=1e-3)
    assert report["val/ratio_max"] == pytest.approx(max(ratios), abs=1e-3)
    assert report["val/ratio_var"] == pytest.approx(pvariance(ratios), rel=1e-2)
    assert report["val/ratio_off_first"] == pytest.approx(fmean(abs(x - 1) for x in ratios), abs=1e-3)


def test_the_policy_keeps_its_learning_rate_under_a_value_on_its_trunk(make: Make, store: Store) -> None:
    """The head alone has the value's, and a group of its own."""
    trainer = make(value="trunk", lr=1e-3, value_lr=1e-5)
    head = set(trainer.roles.heads["policy"].parameters())
    policy, value = trainer.learner.optimizer.param_groups
    assert (policy["lr"], value["lr"]) == (1e-3, 1e-5)
    assert set(value["params"]) == head and set(policy["params"]) == set(trainer.roles.parameters("policy")) - head
    before = {p: p.detach().clone() for p in trainer.learner.parameters}
    said = trainer.step(prompts(trainer, store))
    assert (said["lr"], said["value/lr"]) == (1e-3, 1e-5)
    moved = [max(float((p.detach() - before[p]).abs().max()) for p in group["params"]) for group in (policy, value)]
    assert moved == pytest.approx([1e-3, 1e-5], rel=0.05), "Adam's first step is its learning rate."
    assert said["policy/grad_norm"] > 0 < said["value/grad_norm"]
