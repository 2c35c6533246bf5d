"""The truth of the planner about SFT and reward training: what it says, against the peak of the real trainers, on a CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from tests.families import VOCABULARY
from tests.tiny import tiny_tokenizer
from tests.trainer.test_planned_memory import Case, name, near, real_base, resident
from trainer.batches import chunks
from trainer.fitting import rehearsing, size_of, steps_of
from trainer.models import Base
from trainer.ranked import Ranked
from trainer.rehearsal import Shape, Stand
from trainer.reward import Reward
from trainer.reward_trainer import RewardTrainer
from trainer.roles import Roles, lora_config
from trainer.runs import Run
from trainer.sft import ROLE, Sft, tokenize, tokenize_pair, trainer_of
from trainer.tally import Tally
from trainer.ways import Ways
from trainer.world import ALONE

pytestmark = pytest.mark.planner

LONGEST = 1024
UPDATES = 3


class Second(TrainerCallback):  # type: ignore[misc]
    """Measures the second update: gradients were there before, and the optimizer's states are."""

    def __init__(self, live: Tally) -> None:
        self.live, self.peak = live, 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Look from here on."""
        if state.global_step == 1:
            self.live.restart()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Until here."""
        if state.global_step == 2:
            self.peak = self.live.peak


def talk(case: Case) -> list[dict[str, str]]:
    """A demonstration of about so many words."""
    question, answer = "tea " * case.shape.prompt, "bread " * case.shape.response
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def shape_of(base: Base, said: list[dict[str, str]]) -> Shape:
    """Its tokens."""
    if base.is_encoder_decoder:
        pair = tokenize_pair(base, said, LONGEST)
        return Shape(len(pair["input_ids"]), len(pair["labels"]), 1)
    mask = tokenize(base, said)["completion_mask"]
    return Shape(len(mask) - sum(mask), sum(mask), 1)


def finetuned(case: Case, folder: Path) -> tuple[Shape, int]:
    """The tokens of a demonstration, and the bytes that live at the peak of the trainer's second update on `units` such."""
    tokenizer = tiny_tokenizer()
    base = replace(
        real_base(case, folder / "base"), tokenizer=tokenizer, stop_ids=(tokenizer.eos_token_id,),
        pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    weights, live, said = resident(base.model), Tally(VOCABULARY, gpu=False), talk(case)
    (folder / "run").mkdir()
    ways = case.ways
    config = Sft(
        out=folder / "run", epochs=1.0, batch=case.units, rank=ways.rank, alpha=2 * ways.rank, max_tokens=LONGEST,
        checkpointing=ways.checkpointing, optimizer=ways.optimizer, save_every=1000,
    )  # fmt: skip
    second = Second(live)
    with live:
        roles = Roles(base)
        roles.add(ROLE, lora_config(base, config.rank, config.alpha))
        trainer = trainer_of(config, roles, [said] * (UPDATES * case.units), Run(folder / "run"), ALONE)
        trainer.add_callback(second)
        with roles.routed(ROLE):
            trainer.train()
    assert trainer.state.global_step == UPDATES
    return shape_of(base, said), second.peak + weights


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name(case))
        for case in (
            Case("llama", "none", Shape(24, 40, 1), Ways(), 6),
            Case("llama", "nf4", Shape(60, 30, 1), Ways(), 4),
            Case("llama", "none", Shape(30, 30, 1), Ways(optimizer="adamw-8bit", rank=64), 4),
            Case("gpt_neox", "int8", Shape(50, 50, 1), Ways(checkpointing=True), 6),
            Case("t5", "none", Shape(60, 40, 1), Ways(), 4),
            Case("t5", "nf4", Shape(30, 60, 1), Ways(), 5),
        )
    ],
)
def test_planned_and_measured_peaks_of_the_sft_trainer_agree(case: Case, tmp_path: Path) -> None:
    shape, peak = finetuned(case, tmp_path)
    with rehearsing(replace(case.setup, shape=shape), case.ways) as stand:
        near({"update": stand.peak(steps_of("sft", stand)["update"], case.units).bytes}, {"update": peak})


def ranked(stand: Stand, comparisons: int) -> list[Ranked]:
    """Comparisons of different prompts, every pair of whose answers is ordered."""
    each = stand.shape.compared
    examples = stand.examples(comparisons * each, each)
    pairs = [(i, j, 1.0) for i in range(each) for j in range(i)]
    texts = [""] * each
    apart = [replace(one, response=[2 + i % each, *one.response[1:]]) for i, one in enumerate(examples)]
    return [Ranked(str(i), part, texts, pairs, []) for i, part in enumerate(chunks(apart, each))]


def rewarded(case: Case, folder: Path) -> int:
    """Bytes that live at the peak of the whole training of a reward model (of the last one of an ensemble), whose updates
    have two micro-batches of `units` comparisons each."""
    base, ways = real_base(case, folder / "base"), case.ways
    weights, live = resident(base.model), Tally(VOCABULARY, gpu=False)
    stand = Stand(base, live, case.shape, ways, gpu=False)
    config = Reward(
        out=folder, rank=ways.rank, checkpointing=ways.checkpointing, optimizer=ways.optimizer, batch=2 * case.units,
        members=ways.members, token_budget=size_of("reward", "update", stand, case.units)[1], looks=2,
    )  # fmt: skip
    comparisons = ranked(stand, 6 * case.units + 2)
    trainers = []
    with live:
        roles = Roles(base)
        for number in range(ways.members):
            learned, judged = comparisons[2:], comparisons[:2]
            trainers.append(RewardTrainer(config, roles, learned, Run(folder), f"reward-{number}", validation=judged))
            live.restart()
            assert trainers[-1].train() == "finished"
    assert all(trainer.best and trainer.done == 3 for trainer in trainers)
    return live.peak + weights


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name(case))
        for case in (
            Case("llama", "int8", Shape(100, 20, 2), Ways(checkpointing=True), 4),
            Case("gpt_neox", "nf4", Shape(16, 100, 2), Ways(), 3),
            Case("t5", "none", Shape(64, 32, 4), Ways(), 3),
            Case("llama", "none", Shape(40, 24, 3), Ways(members=3, rank=64), 2),
            Case("qwen3", "none", Shape(40, 24, 2), Ways(optimizer="adamw-8bit", rank=64), 4),
        )
    ],
)
def test_planned_and_measured_peaks_of_the_reward_trainer_agree(case: Case, tmp_path: Path) -> None:
    with rehearsing(case.setup, case.ways) as stand:
        planned = stand.peak(steps_of("reward", stand)["update"], case.units).bytes
    near({"update": planned}, {"update": rewarded(case, tmp_path)})
