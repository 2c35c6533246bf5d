"""Supervised fine-tuning: what is learned, what is left behind, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from preferences.errors import BadRecord, NameTaken, RankloopError, UnknownName
from preferences.records import Study
from preferences.run_files import CARD, WEIGHTS
from preferences.store import Store
from tests.trainer.fill import metrics, state
from tests.trainer.make import is_one_sentence
from trainer import loss_scale
from trainer.budget import sampling_budget
from trainer.models import Base, Quantization, load_base
from trainer.roles import Roles, read_card
from trainer.rollout import Sampling, generate
from trainer.runs import RunExists
from trainer.sft import Sft, sft, tokenize, tokenize_pair

TALKS = [
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    for question, answer in [
        ("Why is the sky blue?", "It is the air."),
        ("Who bakes bread?", "A mouse."),
        ("Say hello.", "Hello, my friend!"),
        ("And now?", "Tea."),
    ]
]


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    """Four short talks."""
    path = tmp_path / "demonstrations.jsonl"
    path.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in TALKS))
    return path


@pytest.fixture
def config(store: Store, tmp_path: Path, demonstrations: Path) -> dict[str, Any]:
    """Options of a short run."""
    return {
        "db": store.path, "out": tmp_path / "mine", "demonstrations": demonstrations, "epochs": 2.0, "batch": 2,
        "rank": 4, "alpha": 8, "lr": 1e-3,
    }  # fmt: skip


def test_only_the_answer_is_learned_and_its_end_too(store: Store, config: dict[str, Any], base: Base) -> None:
    """Labels as they reach the model: the answer and its end token, everything else ignored."""
    seen = []
    base.model.register_forward_pre_hook(
        lambda _, __, given: seen.extend(zip(given["input_ids"].tolist(), given["labels"].tolist(), strict=True)),
        with_kwargs=True,
    )
    sft(Sft(**config), store, base)
    expected = {tuple(base.response_ids(talk[-1]["content"], finished=True)) for talk in TALKS}
    assert {answer[-1] for answer in expected} == {base.tokenizer.eos_token_id}
    assert len(seen) == 2 * len(TALKS)
    for ids, labels in seen:
        learned = [token for token in labels if token != -100]
        assert tuple(learned) in expected
        place = next(i for i, label in enumerate(labels) if label != -100)
        assert ids[place : place + len(learned)] == learned
    assert {tuple(label for label in labels if label != -100) for _, labels in seen} == expected


def test_the_prompt_is_tokenized_as_sampling_does(base: Base) -> None:
    row = tokenize(base, TALKS[0])
    prompt = base.prompt_ids(TALKS[0][:-1])
    assert row["input_ids"][: len(prompt)] == prompt
    assert row["completion_mask"] == [0] * len(prompt) + [1] * (len(row["input_ids"]) - len(prompt))


def test_a_demonstration_can_be_learned_by_heart(
    store: Store, config: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    """The policy then says it, and ends there."""
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"messages": TALKS[0]}) + "\n")
    long = {"demonstrations": path, "epochs": 60.0, "rank": 16, "alpha": 32, "lr": 1e-2}
    sft(Sft(**{**config, **long}), store, load_base(str(llama_folder), "none"))
    roles = Roles(load_base(str(llama_folder), "none"))
    roles.load("sft", config["out"] / "adapter")
    prompt = roles.base.prompt_ids(TALKS[0][:-1])
    sample = generate(roles, "sft", [prompt], [(0,)], Sampling(0.01, max_new_tokens=30), sampling_budget(1000))[0]
    assert (roles.base.text(sample.ids), sample.finished) == (TALKS[0][-1]["content"], True)


def test_what_a_run_leaves(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    result = sft(Sft(**config), store, base)
    run = config["out"]
    assert result["policy"] == "mine" and result["demonstrations"] == 4 and result["loss"] > 0
    card = read_card(run / "adapter", base)
    assert card == {**base.identity, "kind": "sft", "data_hash": card["data_hash"]}
    assert [line["loss"] for line in metrics(run) if "loss" in line] != []
    written = state(run)
    assert (written["state"], written["stage"], written["base"]) == ("finished", "sft", base.identity)
    assert written["config"]["lr"] == 1e-3 and written["demonstrations"] == 4
    policy = store.policies.get("mine")
    assert (policy.kind, policy.base, policy.quantization) == ("sft", base.id, "none")
    assert policy.adapter == str((run / "adapter").resolve()) and policy.data_hash == card["data_hash"]
    assert store.studies.sampling_policies(study) == [policy]


def test_a_policy_that_does_not_answer_next(store: Store, study: Study, config: dict[str, Any], base: Base) -> None:
    sft(Sft(**config, sample_next=False, name="aside"), store, base)
    assert store.policies.get("aside").kind == "sft"
    assert store.studies.sampling_policies(study) == []


def test_the_base_stays_as_it_is(store: Store, config: dict[str, Any], base: Base) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    sft(Sft(**config), store, base)
    after = {name.replace(".base_layer", ""): tensor for name, tensor in base.model.state_dict().items()}
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    assert any("lora_B" in name and tensor.any() for name, tensor in after.items())


def test_a_folder_holds_one_run(store: Store, config: dict[str, Any], base: Base) -> None:
    config["out"].mkdir()
    (config["out"] / "config.json").write_text("{}")
    with pytest.raises(RunExists, match="already holds a run"):
        sft(Sft(**config), store, base)
    assert [path.name for path in config["out"].iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"messages": [{"role": "user", "content": "Hi"}]}', "the last the assistant's"),
        ('{"messages": []}', "must be a list"),
        ("{", "not valid JSON"),
    ],
)
def test_a_malformed_demonstration_is_named_by_its_line(
    store: Store, config: dict[str, Any], base: Base, line: str, what: str
) -> None:
    with config["demonstrations"].open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadRecord, match=rf"demonstrations.jsonl, line 5: .*{what}"):
        sft(Sft(**config), store, base)
    assert not config["out"].exists() and store.policies.all() == []


def test_a_mistake_is_found_before_the_training(store: Store, config: dict[str, Any], base: Base) -> None:
    """An unknown study and a name that is taken; then nothing is written."""
    with pytest.raises(UnknownName, match="no study 'other'"):
        sft(Sft(**config, study="other"), store, base)
    sft(Sft(**{**config, "out": config["out"].with_name("first")}, name="taken"), store, base)
    with pytest.raises(NameTaken, match="'taken'"):
        sft(Sft(**config, name="taken"), store, base)
    assert not config["out"].exists()
    with pytest.raises(RankloopError, match="batch, save_every and keep at least 1"):
        Sft(**{**config, "batch": 0})


def test_demonstrations_of_which_no_answer_is_left_are_refused(
    store: Store, config: dict[str, Any], base: Base
) -> None:
    longest = max(len(base.prompt_ids(talk[:-1])) for talk in TALKS)
    with pytest.raises(RankloopError, match=f"within {longest - 9} tokens; give a larger --max-tokens") as error:
        sft(Sft(**config, max_tokens=longest - 9), store, base)
    assert is_one_sentence(str(error.value)) and not config["out"].exists()
    sft(Sft(**config, max_tokens=longest), store, base)


def test_of_an_encoder_decoder_the_encoder_reads_the_prompt_and_the_decoder_learns_the_answer(
    store: Store, config: dict[str, Any], t5_base: Base
) -> None:
    seen = []
    t5_base.model.register_forward_pre_hook(
        lambda _, __, given: seen.extend(zip(given["input_ids"].tolist(), given["labels"].tolist(), strict=True)),
        with_kwargs=True,
    )
    sft(Sft(**config), store, t5_base)
    pad = t5_base.tokenizer.pad_token_id
    given = {
        (tuple(i for i in ids if i != pad), tuple(label for label in labels if label != -100)) for ids, labels in seen
    }
    assert len(seen) == 2 * len(TALKS)
    assert given == {
        (tuple(t5_base.prompt_ids(talk[:-1])), tuple(t5_base.response_ids(talk[-1]["content"], finished=True)))
        for talk in TALKS
    }


@pytest.mark.parametrize(("quantize", "checkpointing"), [("none", False), ("none", True), ("int8", False)])
def test_an_encoder_decoder_learns_a_demonstration_by_heart(
    store: Store, config: dict[str, Any], t5_folder: Path, tmp_path: Path, quantize: Quantization, checkpointing: bool
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"messages": TALKS[1]}) + "\n")
    long = {"demonstrations": path, "epochs": 60.0, "rank": 16, "alpha": 32, "lr": 1e-2}
    sft(Sft(**{**config, **long, "checkpointing": checkpointing}), store, load_base(str(t5_folder), quantize))
    roles = Roles(load_base(str(t5_folder), quantize))
    roles.load("sft", config["out"] / "adapter")
    prompt = roles.base.prompt_ids(TALKS[1][:-1])
    sample = generate(roles, "sft", [prompt], [(0,)], Sampling(0.01, max_new_tokens=30), sampling_budget(1000))[0]
    assert (roles.base.text(sample.ids), sample.finished) == (TALKS[1][-1]["content"], True)


def test_a_long_talk_of_an_encoder_decoder_keeps_what_is_next_to_the_answer(t5_base: Base) -> None:
    row = tokenize_pair(t5_base, TALKS[0], 5)
    assert row["input_ids"] == t5_base.prompt_ids(TALKS[0][:-1])[-5:]
    assert row["labels"] == t5_base.response_ids(TALKS[0][-1]["content"], finished=True)[:5]


def test_ctrl_c_leaves_an_adapter(store: Store, config: dict[str, Any], llama_folder: Path) -> None:
    base, calls = load_base(str(llama_folder), "none"), []

    def interrupt(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    base.model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        sft(Sft(**config), store, base)
    run = config["out"]
    assert state(run)["state"] == "interrupted" and (run / "adapter" / CARD).is_file()
    assert store.policies.all() == []
    roles = Roles(load_base(str(llama_folder), "none"))
    roles.load("sft", run / "adapter")
    assert any(parameter.any() for parameter in roles.parameters("sft")[1::2])


def test_a_run_can_be_repeated(store: Store, config: dict[str, Any], llama_folder: Path) -> None:
    weights = []
    for name in ("one", "two"):
        sft(Sft(**{**config, "out": config["out"].with_name(name)}), store, load_base(str(llama_folder), "none"))
        roles = Roles(load_base(str(llama_folder), "none"))
        roles.load("sft", config["out"].with_name(name) / "adapter")
        weights.append(torch.cat([parameter.flatten() for parameter in roles.parameters("sft")]))
    assert weights[0].equal(weights[1])


def adapter_of(run: Path) -> dict[str, torch.Tensor]:
    """What was learned."""
    return load_file(run / "adapter" / WEIGHTS)


@pytest.mark.parametrize("quantize", ["int8", "nf4"])
def test_what_is_learned_on_a_quantised_base_is_kept_in_32_bits(
    store: Store, config: dict[str, Any], llama_folder: Path, quantize: Quantization
) -> None:
    """Parameters and optimizer states: a step of Adam is often less than what bf16 rounds to. trl would have bf16."""
    sft(Sft(**config, save_every=1), store, load_base(str(llama_folder), quantize))
    made = adapter_of(config["out"])
    assert {tensor.dtype for tensor in made.values()} == {torch.float32}
    assert all(not tensor.equal(tensor.bfloat16().float()) for tensor in made.values())
    states = torch.load(config["out"] / "checkpoints" / "checkpoint-4" / "optimizer.pt", weights_only=True)["state"]
    moments = [state[name] for state in states.values() for name in ("exp_avg", "exp_avg_sq")]
    assert len(moments) == 2 * len(made) and {tensor.dtype for tensor in moments} == {torch.float32}


def moved(out: Path) -> torch.Tensor:
    """The parts of the adapter that are 0 before any update."""
    return torch.cat([tensor.flatten() for name, tensor in adapter_of(out).items() if "lora_B" in name])


@pytest.fixture
def faint(llama_folder: Path) -> Callable[[torch.dtype], Base]:
    """A base whose head hands gradients on that fp16 cannot hold, though its activations are as usual."""

    def made(dtype: torch.dtype) -> Base:
        base = load_base(str(llama_folder), "none", dtype=dtype)
        with torch.no_grad():
            for weight in (base.model.lm_head.weight, base.model.model.norm.weight):
                weight.mul_(1e-3)
        return base

    return made


def test_small_gradients_survive_fp16(
    store: Store, config: dict[str, Any], faint: Callable[[torch.dtype], Base], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of what an update changes in 32 bits it changes in 16, which it does not if the loss is not scaled."""
    runs = {name: config["out"].with_name(name) for name in ("exact", "scaled", "plain")}
    options = {**config, "epochs": 1.0}
    sft(Sft(**{**options, "out": runs["exact"]}), store, faint(torch.float32))
    sft(Sft(**{**options, "out": runs["scaled"], "save_every": 1}), store, faint(torch.float16))
    monkeypatch.setattr(loss_scale, "SCALE", 1.0)
    sft(Sft(**{**options, "out": runs["plain"]}), store, faint(torch.float16))
    exact, scaled, plain = (moved(out) for out in runs.values())
    assert (scaled.sign() == exact.sign()).float().mean() > 0.9
    assert (plain == 0).float().mean() > 0.5
    kept = torch.load(runs["scaled"] / "checkpoints" / "checkpoint-2" / "scaler.pt", weights_only=True)
    assert kept["scale"] == 1024.0
    norms = [[line["grad_norm"] for line in metrics(runs[name])[:2]] for name in ("scaled", "exact")]
    assert norms[0] == pytest.approx(norms[1], rel=0.05), "clipped at what they are"
    assert [line["skipped_updates"] for line in metrics(runs["scaled"])] == [0, 0, 0]


def test_an_update_that_fp16_cannot_hold_is_skipped_and_said(
    store: Store, config: dict[str, Any], llama_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scale, "SCALE", 2.0**40)
    sft(Sft(**config), store, load_base(str(llama_folder), "none", dtype=torch.float16))
    assert [line["skipped_updates"] for line in metrics(config["out"])] == [1, 1, 1, 1, 1]
    assert not moved(config["out"]).any()
