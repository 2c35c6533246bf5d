"""`trainer plan`: what fits on a card, before anything is loaded."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig

from labeler.outcomes import MemoryPlan
from preferences.errors import RankloopError
from scripts.what_fits import batches
from tests.trainer.test_known_models import OTHERS
from tests.trainer.test_main import call
from trainer.depth import depths, kinds, pattern, with_layers
from trainer.fakes import without_data
from trainer.fitting import GIB, Rehearsal, Setup, largest
from trainer.footprint import footprint, weight_bytes
from trainer.known_models import KNOWN, find_config, llama, neox, t5
from trainer.models import Quantization, UnknownModel
from trainer.plan import STAGES, Plan, Planned, plan, plans
from trainer.plan_text import as_text
from trainer.rehearsal import Shape
from trainer.time_split import Work, time_split
from trainer.ways import Ways

SMALL = ["--prompt", "32", "--response", "16", "--limit", "8"]


def planned_json(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    """What `trainer plan --json` prints."""
    assert call("plan", *args, "--json") == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_model_has_the_published_number_of_parameters(name: str) -> None:
    config, checkpoint, _ = find_config(name)
    size = footprint(Setup(config, "none", Shape(8, 8, 1)), checkpoint, name, 16, 0)
    assert size.parameters / 1e9 == pytest.approx(KNOWN[name].billions, rel=0.01)


def test_a_large_quantised_base_takes_disk_a_second_time() -> None:
    config, checkpoint, _ = find_config("gpt-neox-20b")
    weights, small = 12 * 2**30, 2**29
    plain, kept, quick = (
        footprint(Setup(config, quantize, Shape(8, 8, 1)), checkpoint, "gpt-neox-20b", 16, size)
        for quantize, size in (("none", weights), ("nf4", weights), ("nf4", small))
    )
    assert kept.disk == pytest.approx(plain.disk + 12) and quick.disk == plain.disk


def test_while_a_quantised_base_is_written_a_file_of_it_is_in_the_machines_memory() -> None:
    """Of a gigabyte, or of one tensor that is larger: BLOOM's embeddings in 16 bits are two."""
    for name, gib in (("gpt-neox-20b", 1e9 / GIB), ("bloomz-7b1", 250880 * 4096 * 2 / GIB)):
        config, checkpoint, _ = find_config(name)
        plain, kept, quick = (
            footprint(Setup(config, quantize, Shape(8, 8, 1)), checkpoint, name, 16, size)
            for quantize, size in (("none", 12 * GIB), ("nf4", 12 * GIB), ("nf4", GIB // 2))
        )
        assert kept.host == pytest.approx(plain.host + gib) and quick.host == plain.host


def test_a_model_is_known_by_its_hub_id_too() -> None:
    assert find_config("EleutherAI/gpt-neox-20b").config.num_hidden_layers == 44


def test_an_unknown_model_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownModel, match="'nobody/nothing'"):
        find_config("nobody/nothing")
    assert call("plan", "--model", "nobody/nothing") == 2
    assert "config.json" in capsys.readouterr().err


def test_options_that_make_no_sense_are_all_named() -> None:
    with pytest.raises(RankloopError, match=r"vram must be above 0, not 0; prompt must be above 0, not -1"):
        Plan(vram=0, prompt=-1)
    with pytest.raises(RankloopError, match=r"top_layers must be above 0.*common must be from 0 to below prompt \(9\)"):
        Plan(top_layers=0, prompt=9, common=9)


@pytest.mark.parametrize(
    "total",
    [lambda n: 10 + 3 * n, lambda n: 10 + max(3 * n, 40), lambda n: 10 + 3 * n + (n > 7) * 20, lambda n: 5 * n * n],
)
@pytest.mark.parametrize("room", [12, 13, 50, 64, 100, 10_000])
def test_the_largest_batch_is_found(total: Callable[[int], int], room: int) -> None:
    fits = [n for n in range(1, 33) if total(n) <= room]
    assert largest(total, room, 32) == (max(fits) if fits else 0)


def test_the_weights_of_gpt_neox_20b_in_16_8_and_4_bits() -> None:
    """On a GPU: linear layers in 2, 1 and 0.52 bytes a number (4 bits, and 8 for every 64 numbers), the rest in 2."""
    config = find_config("gpt-neox-20b").config
    size = {q: weight_bytes(Setup(config, q, Shape(8, 8, 1))) / GIB for q in ("none", "int8", "nf4")}  # type: ignore[arg-type]
    assert size["none"] == pytest.approx(38.3, rel=0.01)
    assert size["int8"] == pytest.approx(19.7, rel=0.01)
    assert size["nf4"] == pytest.approx(10.8, rel=0.01)


@pytest.mark.planner
def test_the_embedded_model_fits_on_a_small_card_and_its_parts_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned_json(capsys, "--vram", "4", *SMALL)
    assert found["fits"] is True
    assert found["batch"] == 8
    assert sum(found["parts"].values()) == pytest.approx(found["total_gib"], abs=0.02)  # type: ignore[attr-defined]
    assert found["parts"]["reserve"] >= 1  # type: ignore[index]
    assert set(found["stages"]) == {"sft", "sample", "reward", "ppo"}  # type: ignore[call-overload]
    assert sum(found["time_split"].values()) == pytest.approx(1, abs=0.01)  # type: ignore[attr-defined]
    MemoryPlan.model_validate(found)  # what the labeler takes from a worker on another host


@pytest.mark.planner
def test_what_does_not_fit_says_what_to_change() -> None:
    found = plan(Plan(vram=1.2, stages=("ppo",), prompt=32, response=16, limit=8))
    assert not found.as_json()["fits"]
    assert found.as_json()["batch"] == 0
    text = as_text(found)
    assert "does not fit" in text
    assert "--quantize nf4" in text
    needed = float(re.search(r"at least ([\d.]+) GiB", text)[1])  # type: ignore[index]
    assert plan(Plan(vram=needed + 0.1, stages=("ppo",), prompt=32, response=16, limit=8)).as_json()["fits"]


@pytest.mark.planner
def test_what_would_make_a_stage_fit_is_offered_also_where_it_was_set_off() -> None:
    small = {"stages": ("ppo",), "prompt": 64, "response": 32, "limit": 1}
    fixed = {"checkpointing": False, "value": "adapter"}
    sizes = [total(checkpointing=False), total(checkpointing=True)]
    found = plan(Plan(vram=sum(sizes) / 2, **small, **fixed))  # type: ignore[arg-type]
    assert not found.stages[0].fits
    assert "--checkpointing: ppo fits then." in found.change
    held = plan(Plan(vram=sum(sizes) / 2, **small, checkpointing=True))  # type: ignore[arg-type]
    assert held.stages[0].fits and not held.change


@pytest.mark.planner
def test_optimizer_members_and_top_layers_are_planned_and_given_to_the_stage() -> None:
    options = {"prompt": 32, "response": 16, "limit": 4, "vram": 8, "stages": ("sft", "reward", "ppo"), "rank": 64}
    plain, light, many = (
        plan(Plan(**options, **more))  # type: ignore[arg-type]
        for more in ({}, {"optimizer": "adamw-8bit", "top_layers": 3}, {"members": 3})
    )

    def gib(planned: Planned, part: str) -> list[float]:
        return [found.as_json()["parts"].get(part, 0.0) for found in planned.stages]

    assert all(a < b for a, b in zip(gib(light, "optimizer"), gib(plain, "optimizer"), strict=True))
    assert gib(many, "adapters")[0] == gib(plain, "adapters")[0]
    assert all(a > b for a, b in zip(gib(many, "adapters")[1:], gib(plain, "adapters")[1:], strict=True))
    assert gib(many, "optimizer")[1] == pytest.approx(3 * gib(plain, "optimizer")[1], rel=0.1)
    sft, reward, ppo = (found.options for found in light.stages)
    assert sft["optimizer"] == reward["optimizer"] == ppo["optimizer"] == "adamw-8bit"
    assert ppo["top_layers"] == 3 and "top_layers" not in reward
    assert many.stages[1].options["members"] == 3 and "members" not in many.stages[2].options


@pytest.mark.planner
def test_what_all_prompts_begin_with_is_read_once() -> None:
    """A system prompt of 400 tokens, shared by all rows, leaves room for more of them."""
    apart, common = (
        plan(Plan(stages=("ppo",), prompt=432, response=32, limit=64, vram=8, checkpointing=False, common=tokens))
        for tokens in (0, 400)
    )
    assert common.stages[0].batch > 1.5 * apart.stages[0].batch


def total(**options: object) -> float:
    """GiB of PPO's update with one row of the embedded model."""
    config = Plan(stages=("ppo",), prompt=64, response=32, limit=1, vram=80, **options)  # type: ignore[arg-type]
    return plan(config).as_json()["stages"]["ppo"]["steps"]["update"]["total_gib"]  # type: ignore[no-any-return]


@pytest.mark.planner
def test_checkpointing_and_the_trunk_are_taken_where_nothing_fits_without() -> None:
    plain, again = total(checkpointing=False), total(checkpointing=True)
    trunk = total(checkpointing=True, value="trunk")
    assert trunk < again < plain
    cards = [(trunk + again) / 2, (again + plain) / 2, 16]
    found = [one.stages[0] for one in plans(Plan(stages=("ppo",), prompt=64, response=32, limit=64), cards)]
    assert all(one.fits for one in found)
    assert [(one.ways.checkpointing, one.ways.value) for one in found] == [
        (True, "trunk"), (True, "adapter"), (False, "adapter"),
    ]  # fmt: skip
    assert found[0].batch <= found[1].batch < found[2].batch == 64
    assert found[0].options["value"] == "trunk" and "value" not in found[2].options
    assert found[2].options["sample_budget"] >= 64 * 96


def test_checkpointing_makes_training_a_larger_share_and_the_shares_add_up() -> None:
    work = Work(20_000_000_000, 20 * GIB, "int8", 32, 8, 8)
    plain, again = (time_split(work, Shape(256, 128, 4), Ways(checkpointing=some)) for some in (False, True))
    assert sum(plain.values()) == pytest.approx(1)
    assert again["train"] > plain["train"]


DEEP = {
    "gpt_neox": neox(128, 24, 4, 512),
    "t5": {**t5(128, 256, 20, 4, 32, "gated-gelu"), "vocab_size": 512},
    "gemma3_text": llama("gemma3_text", 128, 256, 40, 4, 1, 512, True, head_dim=32, sliding_window=64),
}


@pytest.mark.planner
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", DEEP)
def test_what_two_depths_say_of_a_deep_model_is_what_executing_all_its_layers_gives(
    family: str, checkpointing: bool
) -> None:
    setup = Setup(AutoConfig.for_model(**DEEP[family]), "nf4", Shape(40, 24, 2))
    for stage in STAGES:
        with without_data(gpu=True):
            quick, whole = (
                Rehearsal(replace(setup, exact=exact), stage, Ways(checkpointing)) for exact in (False, True)
            )
            assert len(quick.layers) == 2 and len(whole.layers) == 1
            for step in whole.steps[0]:
                found, true = quick.at(step, 3).peak, whole.at(step, 3).peak
                assert found.bytes == pytest.approx(true.bytes, rel=0.01), (stage, step)
                assert found.parts["weights"] == pytest.approx(true.parts["weights"], rel=0.01)


@pytest.mark.planner
def test_two_depths_say_it_of_the_top_layers_and_of_a_common_beginning_too() -> None:
    setup = Setup(AutoConfig.for_model(**DEEP["gpt_neox"]), "nf4", Shape(40, 24, 2, common=20))
    for ways in (Ways(top_layers=3), Ways(members=2)):
        with without_data(gpu=True):
            quick, whole = (Rehearsal(replace(setup, exact=exact), "ppo", ways) for exact in (False, True))
            assert (len(quick.layers), len(whole.layers)) == (2, 1)
            for step in ("update", "judge"):
                assert quick.at(step, 3).peak.bytes == pytest.approx(whole.at(step, 3).peak.bytes, rel=0.01), step


def test_layers_of_several_kinds_are_executed_by_whole_periods() -> None:
    gemma = AutoConfig.for_model(**DEEP["gemma3_text"])
    assert pattern(kinds(gemma)) == (0, 6)
    assert depths(gemma, exact=False) == [6, 12]
    assert with_layers(gemma, 6).layer_types == gemma.layer_types[:6]
    assert depths(AutoConfig.for_model(**DEEP["gpt_neox"]), exact=False) == [2, 4]
    assert depths(AutoConfig.for_model(**DEEP["t5"]), exact=False) == [
        2,
        4,
    ]  # its first layer has the positions' biases
    assert depths(AutoConfig.for_model(**DEEP["gpt_neox"]), exact=False, least=5) == [5, 7]
    mixed = AutoConfig.for_model(
        "qwen2_moe", **{**OTHERS["qwen2_moe"], "num_hidden_layers": 24}, mlp_only_layers=[0, 1, 2]
    )
    assert depths(mixed, exact=False) == [4, 6]  # three without experts, as DeepSeek begins
    assert depths(AutoConfig.for_model(**neox(128, 4, 4, 512)), exact=False) == [4]


TABLE = [
    ("gpt-neox-20b", "nf4", 24, True),
    ("flan-ul2", "nf4", 24, True),
    ("flan-t5-xxl", "nf4", 24, True),
    ("opt-iml-max-30b", "nf4", 24, True),
    ("bloomz-7b1", "nf4", 24, True),
    ("gpt-neox-20b", "nf4", 8, False),
    ("opt-iml-max-30b", "int8", 24, False),
    ("gpt-neox-20b", "int8", 24, True),
]


@pytest.mark.planner
@pytest.mark.parametrize(("model", "quantize", "vram", "fits"), TABLE)
def test_the_promised_models_fit_where_they_should(
    capsys: pytest.CaptureFixture[str], model: str, quantize: str, vram: int, fits: bool
) -> None:
    found = planned_json(
        capsys, "--model", model, "--quantize", quantize, "--vram", str(vram), "--prompt", "256", "--response", "128",
        "--samples", "4",
    )  # fmt: skip
    assert found["fits"] is fits
    assert (found["batch"] >= 1) is fits  # type: ignore[operator]
    assert (found["total_gib"] <= vram) is fits  # type: ignore[operator]


def cells(model: str, quantize: str) -> list[str]:
    """The README's cells of a model, card by card."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    row = next(line for line in readme.splitlines() if line.startswith(f"| {model} |"))
    return [cell.strip().split(" / ")[("int8", "nf4").index(quantize)] for cell in row.split("|")[2:-1]]


@pytest.mark.planner
@pytest.mark.parametrize(
    ("model", "quantize"),
    [("qwen3-0.6b", "int8"), ("flan-t5-xxl", "nf4"), ("gpt-neox-20b", "int8"), ("bloomz-3b", "nf4")],
)
def test_what_fits_on_a_card_by_the_readme_is_what_the_planner_says(model: str, quantize: Quantization) -> None:
    assert batches(model, quantize) == cells(model, quantize)
