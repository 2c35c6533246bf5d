"""Several processes make of the same data what one makes: losses, metrics and weights to 1e-5, for every stage."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preferences.records import Study
from preferences.store import Store
from tests.conftest import ROOT
from tests.trainer.fill import (
    QUESTIONS,
    add_comparison,
    add_policy,
    add_prompts,
    demonstrations,
    metrics,
    rank,
    save_adapter,
    state,
)
from tests.trainer.launching import assert_same_run, environment, launched, logged, succeeded, words
from trainer.models import load_base
from trainer.ppo import Ppo, ppo
from trainer.reward import Reward, reward
from trainer.sft import Sft, sft

PPO: dict[str, Any] = {
    "iterations": 4, "episodes": 10, "samples": 2, "epochs": 2, "minibatches": 2, "max_new_tokens": 8, "lr": 1e-3,
    "normalise": True, "kl_target": 0.05, "kl_horizon": 50.0, "show_every": 2, "sample_next": False,
}  # fmt: skip
DYING = '''
import os, signal
calls = []
def reward(prompts, responses):
    """The share of the letter e; the process dies at the call that the environment names."""
    calls.append(1)
    if len(calls) == int(os.environ.get("DIES_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return [text.count("e") / (len(text) + 1) for text in responses]
'''

# Each process adds a line for every prefix that it reads with gradients: how long it is.
PREFIXED = """
import os
from trainer.roles import Roles
plain = Roles.read_prefix
def read_prefix(self, ids):
    made = plain(self, ids)
    if any(x.requires_grad for x in made.tensors):
        with open(f"{os.environ['PREFIXES']}.{os.environ.get('RANK', '0')}", "a") as file:
            print(made.length, file=file)
    return made
Roles.read_prefix = read_prefix
def reward(prompts, responses):
    return [text.count("e") / (len(text) + 1) for text in responses]
"""
SYSTEM = "You answer in one short and friendly sentence, and never in two of them. " * 6

Prepared = dict[str, Any]


@pytest.fixture
def prepared(store: Store, study: Study, llama_folder: Path, tmp_path: Path, own_cache: None) -> Prepared:
    """Prompts, an SFT policy and a reward model on the tiny Llama; the options that name them."""
    del own_cache
    add_prompts(store, study, 8)
    add_policy(store, study, load_base(str(llama_folder), "none"), save_adapter(llama_folder, tmp_path / "sft"))
    judge = save_adapter(llama_folder, tmp_path / "reward", seed=2, head=True)
    return {**PPO, "db": store.path, "model": llama_folder, "quantize": "none", "reward": judge}


def alone(stage: Callable[..., Any], options: Any, store: Store) -> Any:
    """The stage in this process."""
    return stage(options, store, load_base(str(options.model), options.quantize))


def options_of(kind: type, options: Prepared) -> Any:
    """The same as a stage's options."""
    return kind(**{**options, "model": str(options["model"])})


@pytest.mark.distributed
@pytest.mark.smoke
def test_two_processes_make_the_ppo_run_of_one(store: Store, prepared: Prepared, tmp_path: Path) -> None:
    """Whitening, running moments, KL control and skipped updates are those of the whole rollout."""
    one, two = tmp_path / "one", tmp_path / "two"
    alone(ppo, options_of(Ppo, {**prepared, "out": one}), store)
    said = json.loads(succeeded(2, "ppo", {**prepared, "out": two, "json": True}))
    assert_same_run(one, two)
    assert [line["beta"] for line in logged(two)] != [0.05] * 4, "The KL weight was not steered."
    assert (said["policy"], state(two)["state"], state(two)["processes"]) == ("two", "finished", 2)
    assert store.policies.get("two").adapter == str((two / "adapter").resolve())
    other = [json.loads(line) for line in (two / "metrics.1.jsonl").read_text().splitlines()]
    for mine, theirs in zip(metrics(two), other, strict=True):
        assert {k: v for k, v in mine.items() if k[:4] not in ("time", "seco", "eps")} == {
            k: v for k, v in theirs.items() if k[:4] not in ("time", "seco", "eps")
        }


@pytest.mark.distributed
@pytest.mark.parametrize(
    "more",
    [
        {"value": "trunk", "stop_kl": 1e-6},
        {"advantage": "rloo", "samples": 5},
        {"top_layers": 1, "checkpointing": True, "token_budget": 64},
        {"episodes": 2, "minibatches": 1},  # a process without a row
    ],
    ids=["trunk", "rloo", "top", "few"],
)
def test_two_processes_make_the_ppo_run_of_one_with_options(
    store: Store, prepared: Prepared, tmp_path: Path, more: Prepared
) -> None:
    one, two, options = tmp_path / "one", tmp_path / "two", prepared | more
    alone(ppo, options_of(Ppo, {**options, "out": one}), store)
    succeeded(2, "ppo", {**options, "out": two})
    assert_same_run(one, two)
    if "stop_kl" in more:
        assert min(line["updates"] for line in logged(one)) < 4, "Nothing was stopped early."


@pytest.mark.distributed
def test_the_beginning_of_all_prompts_is_read_once_in_each_process(
    store: Store, study: Study, prepared: Prepared, tmp_path: Path
) -> None:
    """With gradients in every update, of several micro-batches a process; each sums up what is its own of them."""
    questions = [[{"role": "system", "content": SYSTEM}, *messages] for messages in QUESTIONS[:8]]
    long = store.studies.create("long", k=4, plan=study.plan)
    prompts = store.prompts.add([{"messages": messages} for messages in questions], heldout=0.0)
    store.studies.add_prompts(long, prompts)
    store.studies.set_sampling_policies(long, [store.policies.get("sft")])
    (file := tmp_path / "prefixed.py").write_text(PREFIXED)
    options = {
        **prepared, "study": "long", "functions": (f"{file}:reward",), "episodes": 12, "samples": 2,
        "token_budget": 400, "sample_budget": 4096,
    }  # fmt: skip
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        succeeded(processes, "ppo", {**options, "out": out}, PREFIXES=str(tmp_path / f"prefixes-{processes}"))
    assert_same_run(tmp_path / "run-1", tmp_path / "run-2")
    read = [(tmp_path / f"prefixes-{name}").read_text().split() for name in ("1.0", "2.0", "2.1")]
    updates = options["iterations"] * options["epochs"] * options["minibatches"]
    assert read == [[read[0][0]] * updates] * 3 and int(read[0][0]) > 100


@pytest.mark.distributed
def test_an_encoder_decoder_too(store: Store, study: Study, t5_folder: Path, tmp_path: Path, own_cache: None) -> None:
    del own_cache
    add_prompts(store, study, 6)
    judge = save_adapter(t5_folder, tmp_path / "reward", seed=2, head=True)
    options = {**PPO, "db": store.path, "model": t5_folder, "quantize": "none", "reward": judge}
    one, two = tmp_path / "one", tmp_path / "two"
    alone(ppo, options_of(Ppo, {**options, "out": one}), store)
    succeeded(2, "ppo", {**options, "out": two})
    assert_same_run(one, two)


@pytest.mark.distributed
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_ppo_goes_on_in_another_number_of_processes(
    store: Store, prepared: Prepared, tmp_path: Path, before: int, after: int
) -> None:
    """The main process is killed in its third iteration; the others end by themselves, in one sentence."""
    file = tmp_path / "dying.py"
    file.write_text(DYING)
    options = {**prepared, "functions": (f"{file}:reward",), "show_every": 9}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    alone(ppo, options_of(Ppo, {**options, "out": whole}), store)
    died = launched(before, "ppo", {**options, "out": broken}, DIES_AT="3")
    assert died.returncode != 0 and state(broken)["state"] == "started"
    assert len(metrics(broken)) == 2
    succeeded(after, "ppo", {"db": store.path, "model": prepared["model"], "quantize": "none", "resume": broken})
    assert_same_run(whole, broken)
    assert state(broken)["state"] == "finished"


@pytest.fixture
def comparisons(store: Store, study: Study, llama_folder: Path, own_cache: None) -> Prepared:
    """Rankings of training and held-out prompts, some of which share answers; the options that name them."""
    del own_cache
    for split in ("train", "heldout"):
        for number, prompt in enumerate(add_prompts(store, study, 11, split)):
            comparison = add_comparison(store, study, prompt, ["Tea!", f"Bread {number}.", "No."])
            rank(store, comparison, [[0, 1], [2]] if number % 4 == 0 else [[0], [1], [2]])
            if number % 3 == 0:
                rank(store, add_comparison(store, study, prompt, ["Tea!", "Never."]), [[0], [1]])
    return {"db": store.path, "model": llama_folder, "quantize": "none", "batch": 4, "epochs": 2.0, "save_every": 2}


REWARDS: list[Prepared] = [
    {"ties": "davidson", "all_bad": 0.1},
    {"members": 2, "loss": "plackett-luce", "pooling": "mean", "layer": (1,)},
    {"token_budget": 120, "checkpointing": True},
]


@pytest.mark.distributed
@pytest.mark.parametrize("more", REWARDS, ids=["davidson", "ensemble", "checkpointing"])
def test_two_processes_make_the_reward_model_of_one(
    store: Store, comparisons: Prepared, tmp_path: Path, more: Prepared
) -> None:
    one, two, options = tmp_path / "one", tmp_path / "two", comparisons | more
    first = alone(reward, options_of(Reward, {**options, "out": one}), store)
    second = json.loads(succeeded(2, "reward", {**options, "out": two, "json": True}))
    for member in ("adapter/member-0", "adapter/member-1") if "members" in more else ("adapter",):
        assert_same_run(one, two, member)
    for name in ("mean", "std", "train_accuracy"):
        assert second[name] == pytest.approx(first[name], abs=1e-5)
    assert second["heldout_accuracy"] == pytest.approx(first["heldout_accuracy"])


@pytest.mark.distributed
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_reward_run_goes_on_in_another_number_of_processes(
    store: Store, comparisons: Prepared, tmp_path: Path, before: int, after: int
) -> None:
    """Ended by SIGTERM as the launcher sends it, after its checkpoints were cut back to the first ones."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    alone(reward, options_of(Reward, {**comparisons, "out": whole}), store)
    succeeded(before, "reward", {**comparisons, "out": broken, "keep": 99})
    for file in sorted((broken / "checkpoints").glob("*.pt"))[2:]:
        file.unlink()  # as if it had been killed after the second one
    document = state(broken)
    (broken / "config.json").write_text(json.dumps({**document, "state": "started"}))
    succeeded(after, "reward", {"db": store.path, "model": comparisons["model"], "quantize": "none", "resume": broken})
    assert_same_run(whole, broken)


def talks(count: int) -> list[list[dict[str, str]]]:
    """Conversations of different lengths."""
    return [
        [{"role": "user", "content": f"Say it {i}?"}, {"role": "assistant", "content": "Yes. " * (1 + i * 5 % 7)}]
        for i in range(count)
    ]


@pytest.mark.distributed
@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("count", [17, 16])  # the last batch has one row, or all
def test_two_processes_make_the_sft_run_of_one(
    store: Store, study: Study, request: pytest.FixtureRequest, tmp_path: Path, own_cache: None, family: str, count: int
) -> None:
    del study, own_cache
    model = request.getfixturevalue(f"{family}_folder")
    file = demonstrations(tmp_path / "talks.jsonl", talks(count))
    options = {
        "db": store.path, "model": model, "quantize": "none", "demonstrations": file, "epochs": 2.0, "batch": 4,
        "save_every": 3,
    }  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    alone(sft, options_of(Sft, {**options, "out": one}), store)
    succeeded(2, "sft", {**options, "out": two})
    assert_same_run(one, two)


@pytest.mark.distributed
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_an_sft_run_goes_on_in_another_number_of_processes(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, own_cache: None, before: int, after: int
) -> None:
    """From a checkpoint in the middle of the only epoch."""
    del study, own_cache
    file = demonstrations(tmp_path / "talks.jsonl", talks(18))
    options = {
        "db": store.path, "model": llama_folder, "quantize": "none", "demonstrations": file, "epochs": 1.0, "batch": 4,
        "save_every": 2, "name": "whole",
    }  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    alone(sft, options_of(Sft, {**options, "out": whole}), store)
    succeeded(before, "sft", {**options, "out": broken, "name": "broken"})
    for folder in (broken / "checkpoints").glob("checkpoint-*"):
        if folder.name != "checkpoint-2":
            (folder / "trainer_state.json").unlink()  # as a kill leaves it
    document = state(broken)
    (broken / "config.json").write_text(
        json.dumps({**document, "state": "started", "config": {**document["config"], "name": "again"}})
    )
    succeeded(after, "sft", {"db": store.path, "model": llama_folder, "quantize": "none", "resume": broken})
    ours, theirs = logged(broken), logged(whole)
    for mine, other in zip(ours[2:], theirs[2:], strict=True):
        assert mine["step"] == other["step"]
        if "grad_norm" in mine:
            assert (mine["loss"], mine["grad_norm"]) == pytest.approx((other["loss"], other["grad_norm"]), abs=1e-5)


@pytest.mark.distributed
def test_ctrl_c_ends_all_processes_and_the_run_can_go_on(store: Store, prepared: Prepared, tmp_path: Path) -> None:
    """The launcher hands SIGTERM to each; the run says "interrupted", and its resumption makes what it would have made."""
    file = tmp_path / "stopping.py"
    file.write_text(DYING.replace("os.getpid()", "os.getppid()").replace("SIGKILL", "SIGTERM"))
    options = {**prepared, "functions": (f"{file}:reward",), "iterations": 6, "show_every": 9}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    alone(ppo, options_of(Ppo, {**options, "out": whole}), store)
    stopped = launched(2, "ppo", {**options, "out": broken}, DIES_AT="3")
    assert stopped.returncode != 0
    assert state(broken)["state"] in ("interrupted", "started")
    succeeded(2, "ppo", {"db": store.path, "model": prepared["model"], "quantize": "none", "resume": broken})
    assert_same_run(whole, broken)


@pytest.mark.distributed
def test_what_goes_wrong_is_one_sentence(store: Store, prepared: Prepared, tmp_path: Path) -> None:
    """The main process finds a mistake: all end, and it is said once. Other commands do not start in several processes."""
    failed = launched(2, "ppo", {**prepared, "out": tmp_path / "out", "study": "nobody"})
    assert failed.returncode != 0 and "nobody" in failed.stderr
    assert "trainer/ppo.py" not in failed.stderr, "A traceback besides the launcher's own."
    refused = launched(2, "sample", {"db": store.path, "model": prepared["model"], "quantize": "none"})
    assert refused.returncode != 0 and "start this command without a launcher" in refused.stderr


@pytest.mark.distributed
def test_two_hosts_have_equal_losses_and_go_on_after_one_was_killed() -> None:
    """Needs root and iproute2."""
    command = [sys.executable, "-m", "scripts.two_hosts", "--iterations", "8"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "equal losses on both sides, 8 rollouts" in done.stdout
    assert "resumed: the same 8 losses on both sides as undisturbed" in done.stdout


PARTS: list[Prepared] = [
    {"quantize": "none"},
    {"quantize": "nf4"},
    {"quantize": "nf4", "checkpointing": True, "value": "trunk", "token_budget": 64},
]


@pytest.mark.distributed
@pytest.mark.parametrize("more", PARTS, ids=["plain", "nf4", "checkpointing"])
def test_a_base_in_parts_makes_the_ppo_run_of_a_whole_one(
    store: Store, study: Study, llama_folder: Path, tmp_path: Path, own_cache: None, more: Prepared
) -> None:
    """FSDP2 on the CPU: frozen layers in parts, adapters whole."""
    del own_cache
    add_prompts(store, study, 7)
    judge = save_adapter(llama_folder, tmp_path / "reward", more["quantize"], seed=2, head=True)
    options = {**PPO, "db": store.path, "model": llama_folder, "reward": judge, **more}
    one, two = tmp_path / "one", tmp_path / "two"
    alone(ppo, options_of(Ppo, {**options, "out": one}), store)
    succeeded(2, "ppo", {**options, "out": two}, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    assert_same_run(one, two)


@pytest.mark.distributed
@pytest.mark.parametrize("layer", [(), (1,)])
def test_a_base_in_parts_makes_the_reward_model_of_a_whole_one(
    store: Store, comparisons: Prepared, tmp_path: Path, layer: tuple[int, ...]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    options = {**comparisons, "quantize": "nf4", "token_budget": 120, "layer": layer}
    alone(reward, options_of(Reward, {**options, "out": one}), store)
    succeeded(2, "reward", {**options, "out": two}, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    assert_same_run(one, two)


@pytest.mark.distributed
@pytest.mark.parametrize("file", ["several.yaml", "fsdp2.yaml"])
def test_accelerate_launches_it_with_our_configurations(
    store: Store, prepared: Prepared, tmp_path: Path, file: str
) -> None:
    """On the CPU, where there is no card."""
    one, two, options = tmp_path / "one", tmp_path / "two", {**prepared, "start": "sft", "iterations": 2}
    alone(ppo, options_of(Ppo, {**options, "out": one}), store)
    launcher = ["accelerate.commands.launch", "--config_file", str(ROOT / "trainer" / "launch" / file)]
    command = [sys.executable, "-m", *launcher, "-m", "trainer", *words("ppo", {**options, "out": two})]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert_same_run(one, two)
    assert state(two)["processes"] == 2
