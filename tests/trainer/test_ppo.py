"""PPO on tiny models: what it changes, what it never changes, and that it improves an easy reward."""

import json
import math
import statistics
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from peft import PeftModel
from transformers import AutoModelForCausalLM

from preferences.errors import NameTaken, RankloopError
from preferences.records import Policy, Study
from preferences.rounds import GateClosed
from preferences.store import Store
from tests.conftest import ROOT
from tests.trainer.fill import add_policy, add_prompts, disturb, metrics, save_adapter, state
from tests.trainer.make import is_one_sentence
from trainer.budget import sampling_budget
from trainer.experience import RatioOff, Rollout
from trainer.metrics import describe
from trainer.models import Base, Quantization, load_base
from trainer.ppo import Ppo, ppo
from trainer.ppo_trainer import PpoTrainer
from trainer.roles import Roles, WrongAdapter
from trainer.rollout import Sampling, generate
from trainer.runs import Run, RunExists

TRL = {
    "objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward", "objective/scores",
    "policy/approxkl_avg", "policy/clipfrac_avg", "policy/entropy_avg", "loss/policy_avg", "loss/value_avg",
    "val/clipfrac_avg", "val/ratio", "val/ratio_var", "val/num_eos_tokens", "lr", "eps", "episode",
}  # fmt: skip
OWN = {
    "objective/kl_k3", "objective/scores_std", "objective/scores_se", "objective/scores_normalised", "beta", "val/eos_rate",
    "val/response_length_p95", "val/empty_rate", "val/distinct_2", "val/explained_variance", "val/returns_mean",
    "val/returns_std", "val/advantages_std", "val/ratio_max", "val/ratio_off", "val/ratio_off_first", "policy/grad_norm",
    "value/grad_norm", "value/lr", "updates", "skipped_updates", "epochs", "val/padding", "seconds/tokens_per_second",
    "seconds/peak_memory_mb", "seconds/memory_headroom_mb",
}  # fmt: skip


@pytest.fixture
def start(store: Store, study: Study, base: Base, adapters: dict[str, Path]) -> Policy:
    """The study's sampling policy; with eight training prompts and four held-out ones."""
    add_prompts(store, study, 8)
    add_prompts(store, study, 4, "heldout")
    return add_policy(store, study, base, adapters["sft"])


@pytest.fixture
def config(store: Store, tmp_path: Path, adapters: dict[str, Path]) -> dict[str, Any]:
    """Options of two short iterations."""
    return {
        "db": store.path, "out": tmp_path / "ppo", "reward": adapters["reward"], "iterations": 2, "episodes": 6,
        "minibatches": 1, "max_new_tokens": 8, "lr": 1e-3, "value_lr": 2e-3,
    }  # fmt: skip


def trainer_of(config: dict[str, Any], base: Base, start: Policy) -> PpoTrainer:
    """A trainer whose run has begun."""
    options, run = Ppo(**config), Run(config["out"])
    run.start("ppo", options, base)
    return PpoTrainer(options, base, start, run)


def update(trainer: PpoTrainer, rollout: Rollout) -> dict[str, float]:
    """The learner's part of an iteration."""
    check = partial(trainer.check, rollout=rollout)
    return trainer.learner.update(rollout, trainer.targets(rollout), 0, check)


def test_a_run_and_what_it_leaves(
    store: Store, study: Study, config: dict[str, Any], base: Base, start: Policy
) -> None:
    result = ppo(Ppo(**config, name="better"), store, base)
    logged = metrics(config["out"])
    assert [line["step"] for line in logged] == [1, 2]
    assert logged[0].keys() >= TRL | OWN
    assert all(math.isfinite(value) for line in logged for value in line.values())
    page = (ROOT / "docs" / "ppo.md").read_text()
    assert not [name for name in logged[0] if f"`{name}`" not in page and not name.startswith("reward/")]
    assert [line["episode"] for line in logged] == [6, 12]
    assert all(line["eps"] * line["seconds/total"] == pytest.approx(6) for line in logged)
    assert logged[0]["seconds/memory_headroom_mb"] > 10
    looks = [json.loads(line) for line in (config["out"] / "samples.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [2]
    assert [set(sample) for sample in looks[0]["samples"]] == [{"prompt", "reference", "response", "score", "kl"}] * 4
    assert [(line["lr"], line["value/lr"]) for line in logged] == [
        pytest.approx((1e-3, 2e-3)),
        pytest.approx((5e-4, 1e-3)),
    ]
    assert logged[0]["val/ratio"] == pytest.approx(1, abs=1e-3)
    assert (result["kl"], result["scores"]) == (logged[1]["objective/kl"], logged[1]["objective/scores"])
    policy = store.policies.get("better")
    assert (policy.kind, policy.parent, policy.data_hash) == ("ppo", start.id, "made")
    assert policy.adapter == str((config["out"] / "adapter").resolve()) and policy.config["episodes"] == 6
    assert store.studies.sampling_policies(study) == [policy]
    written = state(config["out"])
    assert (written["state"], written["iterations"], written["parent"]) == ("finished", 2, start.id)


def test_the_numbers_of_a_rollout(config: dict[str, Any], base: Base, start: Policy, store: Store) -> None:
    """What is logged, against slow sums over answers: KL in nats an answer, reward = score - beta KL."""
    trainer = trainer_of({**config, "beta": 0.5}, base, start)
    prompts = store.prompts.all("train")
    rollout, _ = trainer.judge(trainer.sample(prompts))
    answers = rollout.answers
    moved = replace(rollout, reference=rollout.reference - 0.1 * answers.mask)  # as if the policy had moved
    said = describe(moved, trainer.targets(moved), 0.5)
    lengths = [len(example.response) for example in answers.examples]
    kl = sum(0.1 * length for length in lengths) / len(lengths)
    assert said["objective/kl"] == pytest.approx(kl, rel=1e-2)
    assert said["objective/non_score_reward"] == pytest.approx(-0.5 * kl, rel=1e-2)
    assert said["objective/rlhf_reward"] == pytest.approx(float(rollout.scores.mean()) - 0.5 * kl, rel=1e-2)
    assert said["val/response_length"] == sum(lengths) / len(lengths)
    surprise = -sum(float(answers.old[i, :n].sum()) for i, n in enumerate(lengths)) / len(lengths)
    assert said["objective/entropy"] == pytest.approx(surprise, rel=1e-4)
    assert said["val/num_eos_tokens"] == sum(answers.finished)


@pytest.mark.parametrize(
    ("options", "lam"),
    [
        ({}, 0.95),
        ({"functions": ("some.py:reward",)}, 0.95),
        ({"value": "trunk"}, 1.0),
        ({"reward": None, "functions": ("some.py:reward",)}, 1.0),
        ({"value": "trunk", "lam": 0.0}, 0.0),
    ],
)
def test_advantages_rely_on_a_value_that_starts_as_the_rewards_copy(
    config: dict[str, Any], options: dict[str, Any], lam: float
) -> None:
    assert Ppo(**{**config, **options}).gae_lambda() == lam


def test_what_is_trained_on_in_numbers(config: dict[str, Any], base: Base, start: Policy, store: Store) -> None:
    """The score after the clip and before the penalty, and the advantages before they are whitened, by slow loops."""
    trainer = trainer_of({**config, "score_clip": 0.3, "beta": 0.0, "gamma": 0.9, "lam": 0.5}, base, start)
    rollout, _ = trainer.judge(trainer.sample(store.prompts.all("train")))
    answers, gamma, lam = rollout.answers, 0.9, 0.5
    returns, advantages = [], []
    scores = [min(0.3, max(-0.3, score)) for score in rollout.scores.tolist()]
    for row, (score, ended, example) in enumerate(zip(scores, answers.finished, answers.examples, strict=True)):
        values, advantage = [*answers.values[row, : len(example.response)].tolist(), 0.0], 0.0
        for t in reversed(range(len(values) - 1)):
            reward = score - (not ended) if t == len(values) - 2 else 0.0
            advantage = reward + gamma * values[t + 1] - values[t] + gamma * lam * advantage
            advantages.append(advantage)
            returns.append(advantage + values[t])
    said = describe(rollout, trainer.targets(rollout), 0.0)
    assert len(set(scores)) > 1 and max(map(abs, scores)) == 0.3 < rollout.scores.abs().max()
    assert said["objective/scores"] == pytest.approx(float(rollout.scores.mean()))
    assert said["objective/scores_normalised"] == pytest.approx(sum(scores) / len(scores))
    assert said["val/returns_std"] == pytest.approx(statistics.pstdev(returns), rel=1e-4)
    assert said["val/advantages_std"] == pytest.approx(statistics.pstdev(advantages), rel=1e-4)


def test_the_reference_s_answers_stand_beside_the_policy_s(
    store: Store, config: dict[str, Any], base: Base, start: Policy
) -> None:
    """Drawn with the same random numbers: equal before any update, and afterwards still those of the start."""
    trainer = trainer_of({**config, "lr": 5e-2}, base, start)
    prompts = store.prompts.all("train")
    first = trainer.look(prompts)
    assert [row["reference"] for row in first] == [row["response"] for row in first]
    trainer.step(prompts[:6])
    second = trainer.look(prompts)
    assert [row["reference"] for row in second] == [row["reference"] for row in first]
    assert [row["response"] for row in second] != [row["response"] for row in first]


def test_only_policy_and_value_are_trained(config: dict[str, Any], base: Base, start: Policy, store: Store) -> None:
    """Base, reference, reward and the reward's head keep every bit."""
    trainer = trainer_of(config, base, start)
    heads = {role: {k: v.clone() for k, v in head.state_dict().items()} for role, head in trainer.roles.heads.items()}
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    trainer.step(store.prompts.all("train")[:6])
    after = base.model.state_dict()
    changed = {name for name, tensor in before.items() if not tensor.equal(after[name])}
    assert {name.split(".")[-2] for name in changed} == {"policy", "value"}
    assert any(f".{start.id}." in name for name in before) and any(".reward." in name for name in before)
    trained = {role: not head.weight.equal(heads[role]["weight"]) for role, head in trainer.roles.heads.items()}
    assert trained == {"reward": False, "value": True}


def test_a_policy_that_is_not_its_own_rollout_is_not_trained(
    config: dict[str, Any], base: Base, start: Policy, store: Store
) -> None:
    trainer = trainer_of(config, base, start)
    rollout, _ = trainer.judge(trainer.sample(store.prompts.all("train")))
    disturb(trainer.roles, "policy", 0.1)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    with pytest.raises(RatioOff, match=r"ratio - 1\| is .* nothing was trained"):
        update(trainer, rollout)
    assert all(tensor.equal(before[name]) for name, tensor in base.model.state_dict().items())


def test_a_policy_that_is_not_its_reference_is_not_trained(
    config: dict[str, Any], base: Base, start: Policy, store: Store
) -> None:
    """Disturbed before sampling: the ratio is 1, but the KL to the reference is not 0."""
    trainer = trainer_of(config, base, start)
    disturb(trainer.roles, "policy", 0.1)
    rollout, _ = trainer.judge(trainer.sample(store.prompts.all("train")))
    with pytest.raises(RatioOff, match=r"KL to the reference"):
        update(trainer, rollout)


def test_a_run_that_stops_at_the_first_check_leaves_no_policy(
    store: Store, study: Study, config: dict[str, Any], base: Base, start: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = PpoTrainer.judge

    def disturbed(self: PpoTrainer, answers: Any) -> Any:
        found = judge(self, answers)
        disturb(self.roles, "policy", 0.1)
        return found

    monkeypatch.setattr(PpoTrainer, "judge", disturbed)
    with pytest.raises(RatioOff) as stopped:
        ppo(Ppo(**config), store, base)
    assert not (config["out"] / "adapter").exists()
    assert store.policies.all() == [start] == store.studies.sampling_policies(study)
    written = state(config["out"])
    assert (written["state"], written["error"]) == ("failed", str(stopped.value))


FAILING = """
calls = []
def reward(prompts, responses):
    calls.append(1)
    if len(calls) == 3:
        raise ValueError("no more")
    return [float(len(text)) for text in responses]
"""


def test_a_run_that_fails_keeps_its_last_good_adapter_and_goes_on(
    store: Store, study: Study, config: dict[str, Any], base: Base, start: Policy, llama_folder: Path
) -> None:
    """In its third iteration, after updates that its newest checkpoint has not seen."""
    out = config["out"]
    (out.parent / "failing.py").write_text(FAILING)
    options = {
        **config, "iterations": 3, "minibatches": 2, "show_every": 9, "functions": (f"{out.parent / 'failing.py'}:reward",),
    }  # fmt: skip
    kept, step = {}, PpoTrainer.step

    def watched(self: PpoTrainer, prompts: list[Any]) -> dict[str, Any]:
        kept[self.done] = [p.detach().clone() for p in self.roles.parameters("policy")]
        if self.done == 2:
            disturb(self.roles, "policy", 0.1)  # as in the middle of an update
        return step(self, prompts)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RankloopError, match="ValueError: no more"):
        patch.setattr(PpoTrainer, "step", watched)
        ppo(Ppo(**options), store, base)
    written = state(out)
    assert (written["state"], written["iterations"]) == ("failed", 2) and "no more" in written["error"]
    roles = Roles(load_base(str(llama_folder), "none"))
    card = roles.load("kept", out / "adapter")
    assert (card["kind"], card["parent"], card["iterations"]) == ("ppo", start.id, 2)
    assert all(p.equal(q) for p, q in zip(roles.parameters("kept"), kept[2], strict=True))
    assert store.policies.all() == [start] == store.studies.sampling_policies(study)
    assert ppo(Ppo(db=store.path, resume=out), store, load_base(str(llama_folder), "none"))["iterations"] == 3
    assert state(out)["state"] == "finished" and "error" not in state(out)


@pytest.mark.usefixtures("start")
def test_whatever_a_run_fails_of_is_said_in_its_folder(
    store: Store, config: dict[str, Any], llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first checkpoint there is no adapter; where the folder cannot be written, the first error is still told."""
    monkeypatch.setattr(
        PpoTrainer, "sample", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no room\nat all"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        ppo(Ppo(**config), store, load_base(str(llama_folder), "none"))
    written = state(config["out"])
    assert (written["state"], written["iterations"]) == ("failed", 0) and not (config["out"] / "adapter").exists()
    assert written["error"] == "The run failed: OutOfMemoryError: no room at all; --resume goes on with it."

    def full(*_: object, **__: object) -> None:
        raise RankloopError("The disk is full.")

    monkeypatch.setattr(Run, "finish", full)
    with pytest.raises(torch.OutOfMemoryError):
        ppo(Ppo(**{**config, "out": config["out"].with_name("other")}), store, load_base(str(llama_folder), "none"))


@pytest.mark.usefixtures("start")
def test_an_easy_reward_goes_up(store: Store, config: dict[str, Any], base: Base) -> None:
    """A random head on the last state, and so peaked a policy that it says the same few tokens again and again."""
    easy = {
        "iterations": 6, "episodes": 48, "epochs": 4, "lr": 1e-2, "value_lr": 1e-2, "beta": 0.0,
        "missing_eos_penalty": 0.0, "max_new_tokens": 2, "temperature": 0.25,
    }  # fmt: skip
    ppo(Ppo(**{**config, **easy}), store, base)
    logged = metrics(config["out"])
    scores = [line["objective/scores"] for line in logged]
    spread = logged[0]["objective/scores_std"] / 48**0.5
    assert scores[-1] > scores[0] + 3 * spread, scores
    assert logged[-1]["objective/kl"] > 0


def test_a_missing_end_is_punished(config: dict[str, Any], base: Base, start: Policy, store: Store) -> None:
    """The return of an answer's last token: its score, less the penalty if the answer was cut."""
    trainer = trainer_of({**config, "missing_eos_penalty": 3.0, "beta": 0.0, "max_new_tokens": 6}, base, start)
    rollout, _ = trainer.judge(trainer.sample(store.prompts.all("train")))
    mask, texts = rollout.answers.mask, rollout.answers.texts
    ended, cut = (
        replace(rollout, answers=replace(rollout.answers, finished=[end] * len(texts))) for end in (True, False)
    )
    last = mask.sum(1) - 1
    rows = torch.arange(len(last))
    difference = trainer.targets(ended).returns[rows, last] - trainer.targets(cut).returns[rows, last]
    torch.testing.assert_close(difference, torch.full_like(difference, 3.0))


@pytest.mark.parametrize("episodes", [{"minibatches": 1}, {"minibatches": 3, "epochs": 2}])
@pytest.mark.usefixtures("start")
def test_the_same_seed_gives_the_same_run(
    store: Store, config: dict[str, Any], llama_folder: Path, episodes: dict[str, int]
) -> None:
    runs = []
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        options = Ppo(**{**config, **episodes, "out": config["out"].with_name(name)}, seed=seed, start="sft")
        ppo(options, store, load_base(str(llama_folder), "none"))
        lines = metrics(options.out)
        runs.append(
            [{k: v for k, v in line.items() if "seconds" not in k and k not in ("time", "eps")} for line in lines]
        )
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.usefixtures("start")
def test_dual_clip_is_at_work_where_ratios_move(store: Store, config: dict[str, Any], llama_folder: Path) -> None:
    share = {}
    for name, bound in (("free", None), ("bound", 1.001)):
        moving = {**config, "out": config["out"].with_name(name), "iterations": 1, "epochs": 2, "lr": 0.02}
        options = Ppo(**moving, dual_clip=bound, start="sft")
        ppo(options, store, load_base(str(llama_folder), "none"))
        share[name] = metrics(options.out)[0]["policy/clipfrac_avg"]
    assert share["bound"] > share["free"]


@pytest.mark.usefixtures("start")
def test_no_held_out_prompt_is_ever_used(
    store: Store, config: dict[str, Any], base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    prompt_ids = Base.prompt_ids

    def spy(self: Base, messages: list[dict[str, str]]) -> list[int]:
        seen.add(json.dumps(messages))
        return prompt_ids(self, messages)

    monkeypatch.setattr(Base, "prompt_ids", spy)
    ppo(Ppo(**{**config, "iterations": 3}), store, base)
    assert seen == {json.dumps(prompt.messages) for prompt in store.prompts.all("train")}


def test_ctrl_c_leaves_the_policy_of_the_last_whole_iteration(
    store: Store, study: Study, config: dict[str, Any], base: Base, start: Policy, llama_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It comes in the middle of an update."""
    step, whole = PpoTrainer.step, []

    def interrupted(self: PpoTrainer, prompts: list[Any]) -> dict[str, float]:
        if self.done == 1:
            whole.extend(p.detach().clone() for p in self.roles.parameters("policy"))
            disturb(self.roles, "policy", 0.1)
            raise KeyboardInterrupt
        return step(self, prompts)

    monkeypatch.setattr(PpoTrainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ppo(Ppo(**{**config, "iterations": 5}), store, base)
    written = state(config["out"])
    assert (written["state"], written["iterations"], len(metrics(config["out"]))) == ("interrupted", 1, 1)
    assert "error" not in written
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), config["out"] / "adapter")
    roles = Roles(load_base(str(llama_folder), "none"))
    assert roles.load("kept", config["out"] / "adapter")["iterations"] == 1
    assert all(p.equal(q) for p, q in zip(roles.parameters("kept"), whole, strict=True))
    assert store.policies.all() == [start] == store.studies.sampling_policies(study)


def test_plain_peft_loads_the_adapter_and_answers(
    store: Store, config: dict[str, Any], base: Base, start: Policy, llama_folder: Path
) -> None:
    """Its greedy answer is that of our own routed model, and not that of the policy it started from."""
    ppo(Ppo(**{**config, "lr": 2e-2, "iterations": 3}), store, base)
    prompt = base.prompt_ids(store.prompts.all("heldout")[0].messages)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), config["out"] / "adapter")
    ids = torch.tensor([prompt])
    drawn = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
    roles = Roles(load_base(str(llama_folder), "none"))
    roles.load("policy", config["out"] / "adapter")
    roles.load("sft", Path(str(start.adapter)))
    ours, before = (
        generate(roles, role, [prompt], [(0,)], Sampling(1e-4, max_new_tokens=12), sampling_budget(1000))[0].ids
        for role in ("policy", "sft")
    )
    assert drawn[0, len(prompt) :].tolist() == ours
    assert ours != before


def small_run(
    store: Store, model: Path, quantize: Quantization, out: Path, **more: float
) -> tuple[Base, list[dict[str, Any]]]:
    """PPO from an SFT policy on that model; the base and the metrics."""
    study = store.studies.default()
    add_prompts(store, study, 4)
    base = load_base(str(model), quantize)
    add_policy(store, study, base, save_adapter(model, out / "sft", quantize))
    sizes = {"iterations": 2, "episodes": 4, "minibatches": 1, "max_new_tokens": 6}
    options: dict[str, Any] = {**sizes, "lr": 1e-3, **more}
    judge = save_adapter(model, out / "reward", quantize, seed=2, head=True)
    ppo(Ppo(db=store.path, out=out / "ppo", reward=judge, **options), store, base)
    return base, metrics(out / "ppo")


def test_int8_on_the_cpu(store: Store, llama_folder: Path, tmp_path: Path) -> None:
    """End to end on bitsandbytes' own modules, whose weights are never touched."""
    fresh = load_base(str(llama_folder), "int8")
    base, logged = small_run(store, llama_folder, "int8", tmp_path)
    modules = {n.replace(".base_layer", ""): m for n, m in base.model.named_modules() if isinstance(m, Linear8bitLt)}
    expected = {n: m for n, m in fresh.model.named_modules() if isinstance(m, Linear8bitLt)}
    assert len(expected) == 2 * 7  # two layers of q, k, v, o, gate, up, down
    for name, module in expected.items():
        assert modules[name].weight.dtype == torch.int8
        assert modules[name].weight.equal(module.weight)
    assert logged[0]["val/ratio_off"] < 2e-2
    assert store.policies.get("ppo").quantization == "int8"


def test_an_encoder_decoder(store: Store, t5_folder: Path, tmp_path: Path) -> None:
    """At a temperature at which the random model, whose logits are large, says this and that."""
    _, logged = small_run(store, t5_folder, "none", tmp_path, temperature=10.0)
    assert logged[0]["val/ratio_off"] < 1e-3
    assert logged[0]["objective/entropy"] > 6
    assert logged[0]["objective/kl_k3"] < 1e-4 < logged[1]["objective/kl_k3"]


def test_from_the_plain_base(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    """Without any adapter the base itself is the reference."""
    add_prompts(store, study, 4)
    ppo(Ppo(**config, snapshots=0), store, base)
    logged = metrics(config["out"])
    assert logged[0]["objective/kl"] == pytest.approx(0, abs=1e-4) and logged[1]["objective/kl_k3"] > 0
    plain, better = store.policies.all()
    assert (plain.kind, better.parent) == ("base", plain.id)


@pytest.mark.usefixtures("start")
def test_a_later_round_goes_on_from_the_policy_and_stays_near_sft(
    store: Store, config: dict[str, Any], base: Base, llama_folder: Path
) -> None:
    """The first KL of the second round is how far the first one went; with the policy as reference it would be 0."""
    ppo(Ppo(**{**config, "lr": 2e-2, "value_lr": 2e-2}), store, base)
    first = store.policies.get("ppo")
    gone = metrics(config["out"])[1]["objective/kl_k3"]
    near = {**config, "iterations": 1, "lr": 1e-6}
    for out, reference, least in (("second", None, gone / 3), ("itself", "ppo", 0.0)):
        options = Ppo(**{**near, "out": config["out"].with_name(out)}, start="ppo", reference=reference)
        ppo(options, store, load_base(str(llama_folder), "none"))
        (line,) = metrics(options.out or Path())
        assert line["val/ratio_off"] < 1e-3
        assert line["objective/kl_k3"] > least > 0 if least else line["objective/kl_k3"] < 1e-4
    written = state(config["out"].with_name("second"))
    assert (written["parent"], written["reference"]) == (first.id, "sft")
    assert state(config["out"].with_name("itself"))["reference"] == first.id
    assert store.policies.get("second").parent == first.id


@pytest.mark.usefixtures("start")
def test_a_study_s_gates_stop_ppo_before_it_begins(
    store: Store, study: Study, config: dict[str, Any], base: Base
) -> None:
    store.studies.edit(study, plan={"min_accuracy": 0.6})
    with pytest.raises(GateClosed, match="accuracy is unknown"):  # nobody ranked what this reward model was made of
        ppo(Ppo(**config), store, base)
    store.studies.edit(study, plan={"min_accuracy": 0.0, "min_win_rate": 0.5})
    with pytest.raises(GateClosed, match="--no-sample-next"):
        ppo(Ppo(**config), store, base)
    assert not config["out"].exists()


@pytest.mark.usefixtures("start")
def test_a_wrong_adapter_is_refused(
    store: Store, config: dict[str, Any], llama_folder: Path, t5_folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """A reward model of another base or quantisation, one without a head, and a policy of another quantisation."""
    other = save_adapter(t5_folder, tmp_path / "other", head=True)
    int8 = save_adapter(llama_folder, tmp_path / "int8", "int8", head=True)
    known = store.policies.all()
    cases: list[tuple[Path, Quantization, str]] = [
        (other, "none", "was trained with base .*t5"),
        (int8, "none", "with quantization 'int8', and this is 'none'"),
        (adapters["sft"], "none", "no score head"),
        (tmp_path / "nothing", "none", "holds no rankloop adapter"),
        (adapters["reward"], "int8", "Policy 'sft' belongs to .* --quantize none"),
    ]
    for judge, quantize, sentence in cases:
        with pytest.raises(WrongAdapter, match=sentence):
            ppo(Ppo(**{**config, "reward": judge}), store, load_base(str(llama_folder), quantize))
        assert not config["out"].exists() and store.policies.all() == known


@pytest.mark.usefixtures("start")
def test_a_mistake_is_found_before_the_training(store: Store, config: dict[str, Any], base: Base) -> None:
    with pytest.raises(NameTaken, match="'sft'"):
        ppo(Ppo(**config, name="sft"), store, base)
    with pytest.raises(RankloopError, match="no policy 'nobody'"):
        ppo(Ppo(**config, start="nobody"), store, base)
    empty = store.studies.create("empty")
    with pytest.raises(RankloopError, match="'empty' has no training prompts"):
        ppo(Ppo(**config, study=empty.name, start="sft"), store, base)
    assert not config["out"].exists()
    config["out"].mkdir()
    (config["out"] / "config.json").write_text("{}")
    with pytest.raises(RunExists):
        ppo(Ppo(**config), store, base)


@pytest.mark.parametrize("tracker", ["trackio", "wandb"])
@pytest.mark.usefixtures("start")
def test_a_tracker_that_is_not_installed_is_told_before_the_training(
    store: Store, config: dict[str, Any], base: Base, tracker: str
) -> None:
    if find_spec(tracker):
        pytest.skip(f"{tracker} is installed here")
    with pytest.raises(RankloopError) as error:
        ppo(Ppo(**config, tracker=tracker), store, base)
    assert is_one_sentence(str(error.value)) and f"`pip install {tracker}`" in str(error.value)
    assert not config["out"].exists()


def test_every_wrong_option_is_named_at_once(config: dict[str, Any]) -> None:
    wrong = {
        "iterations": 0, "lr": -1.0, "temperature": 0.0, "max_new_tokens": 0, "beta": -0.1, "gamma": 1.5, "dual_clip": 1.0,
    }  # fmt: skip
    with pytest.raises(RankloopError) as error:
        Ppo(**{**config, **wrong})
    said = str(error.value)
    assert said.count("\n") == 0 and said.endswith(".")
    for part in (
        "iterations must be above 0, not 0", "lr must be above 0, not -1.0", "temperature must be above 0, not 0.0",
        "max_new_tokens must be above 0, not 0", "beta must be at least 0, not -0.1", "gamma must be from 0 to 1, not 1.5",
        "dual_clip must be above 1, not 1.0",
    ):  # fmt: skip
        assert part in said
