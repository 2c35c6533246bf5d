"""Supervised fine-tuning on demonstrations, with loss on the answer only: LoRA by trl's SFTTrainer, and for an
encoder-decoder by transformers' Seq2SeqTrainer."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from tqdm import tqdm
from transformers import (
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)
from transformers.trainer_utils import set_seed
from trl import SFTConfig, SFTTrainer

from preferences.errors import RankloopError
from preferences.exchange.checks import check_demonstration
from preferences.exchange.reading import read_jsonl
from preferences.records import Study
from preferences.run_files import CHECKPOINTS
from preferences.store import Store
from trainer.going_on import folder_of, out_or_resume, resumed
from trainer.loss_scale import scaled
from trainer.models import Base
from trainer.optimizers import IN_TRANSFORMERS, OptimizerName
from trainer.roles import Roles, lora_config
from trainer.runs import Run, check_free, run_in
from trainer.shared_batches import shared, token_loss
from trainer.stage import Stage, check_name, open_study, register
from trainer.world import ALONE, World, training_together

ROLE = "default"  # PEFT's name of an only adapter, which transformers keeps in a checkpoint's own folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Sft(Stage):
    """Fine-tune the base on demonstrations; the result becomes the study's sampling policy."""

    out: Path | None = None
    """Folder of the run."""
    resume: Path | None = None
    """Go on with the run in this folder, under its own options, from its newest checkpoint."""
    demonstrations: Path = Path("data/demonstrations.jsonl")
    """JSONL of {messages: [..., the last an assistant's]}."""
    name: str | None = None
    """Name of the policy; default the run folder's."""
    epochs: float = 1.5
    """Passes over the demonstrations."""
    lr: float = 2e-4
    """Peak learning rate; linear decay."""
    batch: int = 8
    """Demonstrations a step."""
    rank: int = 16
    """Rank of the adapter."""
    alpha: int = 32
    """LoRA scale times rank."""
    max_tokens: int = 1024
    """Demonstrations longer than this are cut; of an encoder-decoder, prompt and answer each."""
    optimizer: OptimizerName = "adamw"
    """AdamW with its states in 32 bits, in 8, or in 8 and paged: moved to the machine's memory when the card's runs out."""
    checkpointing: bool = False
    """Keep only the layers' inputs for the backward pass: less memory, one more forward pass."""
    save_every: int = 25
    """Steps between two checkpoints."""
    keep: int = 2
    """Checkpoints that are kept."""
    sample_next: bool = True
    """Let this policy answer the study's prompts from now on."""

    def __post_init__(self) -> None:
        wrong = out_or_resume(self)
        if self.epochs <= 0 or self.lr <= 0 or min(self.batch, self.save_every, self.keep) < 1:
            wrong.append("epochs and lr must be above 0, and batch, save_every and keep at least 1")
        if wrong:
            raise RankloopError("; ".join(wrong) + ".")

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return folder_of(self)


class Progress(TrainerCallback):  # type: ignore[misc]
    """A bar on standard error (the trainer's own writes to standard output) and a line of metrics.jsonl a step."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.bar: Any = None
        self.skipped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Now the number of steps is known."""
        self.bar = tqdm(total=state.max_steps, desc="sft", unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """One step further; one whose gradients fp16 could not hold changes nothing."""
        self.skipped = kwargs["optimizer"].step_was_skipped
        self.bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:  # noqa: ARG002
        """Keep and show what the trainer reports."""
        facts = {"step": state.global_step, "steps": state.max_steps, "skipped_updates": int(self.skipped)}
        self.run.log({**facts, **(logs or {})})
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.2f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """The bar stays where it is."""
        self.bar.close()


@dataclass(frozen=True, slots=True)
class Material:
    """What a run works on: its options (those it was begun with, if it goes on), conversations, and where it goes on from."""

    config: Sft
    study: Study
    talks: list[list[dict[str, str]]]
    data_hash: str
    checkpoint: Path | None


def sft(config: Sft, store: Store, base: Base, world: World = ALONE) -> dict[str, Any]:
    """Train, save the adapter, register the policy; {"policy", "adapter", "loss", "demonstrations"}.

    `store` and the demonstrations are read by the main process alone.
    """
    if world.sharded:
        raise RankloopError(
            "trainer sft takes a whole base on each card, not one in parts (FSDP2); take a base that fits, and start it with "
            "trainer/launch/several.yaml."
        )
    run = run_in(config.folder, world)
    material = world.told(lambda: read(config, store, base, run, world.size))
    config, data_hash, checkpoint = material.config, material.data_hash, material.checkpoint
    set_seed(config.seed)
    disable_progress_bar()
    roles = Roles(base)
    roles.add(ROLE, lora_config(base, config.rank, config.alpha))
    trainer = trainer_of(config, roles, material.talks, run, world)
    trainer.remove_callback(PrinterCallback)
    state = "finished"
    try:
        with training_together(), roles.routed(ROLE):
            result = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    except KeyboardInterrupt:
        state = "interrupted"
    if world.main:
        roles.save(ROLE, run.adapter, {"kind": "sft", "data_hash": data_hash})
    if state == "interrupted":
        run.finish(state)
        raise KeyboardInterrupt
    if not world.main:
        return {}
    name = config.name or run.folder.name
    policy = register(store, material.study, name, "sft", base, run.adapter, config.sample_next, data_hash=data_hash)
    loss = float(result.training_loss)
    run.finish(policy=policy.id, loss=loss)
    return {"policy": policy.name, "adapter": str(run.adapter), "loss": loss, "demonstrations": len(material.talks)}


def read(config: Sft, store: Store, base: Base, run: Run, processes: int) -> Material:
    """The material of a run, which is begun here, or goes on. Raises RankloopError if folder or name is taken."""
    going_on = config.resume is not None
    if going_on:
        config = resumed(config, "sft")
    study, name = open_study(store, config.study), config.name or run.folder.name
    records = read_jsonl(config.demonstrations, check_demonstration)
    talks = [record["messages"] for record in records]
    check_lengths(base, talks, config.max_tokens)
    data_hash = hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()[:16]
    checkpoint = None
    if run.goes_on(going_on, data_hash):
        checkpoint = newest_checkpoint(run)
    else:
        check_free(run.folder)
        check_name(store, name)
        facts = {"study": study.id, "data_hash": data_hash, "demonstrations": len(records), "processes": processes}
        run.start("sft", config, base, **facts)
    return Material(config, study, talks, data_hash, checkpoint)


def check_lengths(base: Base, talks: list[list[dict[str, str]]], most: int) -> None:
    """Raises RankloopError if of no talk a part of the answer is left, as they are cut; encoders read prompts apart."""
    if not base.is_encoder_decoder and all(len(base.prompt_ids(talk[:-1])) >= most for talk in talks):
        raise RankloopError(f"No demonstration's answer begins within {most} tokens; give a larger --max-tokens.")


def newest_checkpoint(run: Run) -> Path | None:
    """The newest one that is whole, or None; what was logged after it is dropped."""
    steps = {int(path.name.rpartition("-")[2]): path for path in (run.folder / CHECKPOINTS).glob("checkpoint-*")}
    whole = [step for step, path in steps.items() if is_whole(path)]
    run.truncate(max(whole, default=0))
    return steps[max(whole)] if whole else None


def is_whole(checkpoint: Path) -> bool:
    """Whether it was written to its end: transformers writes this file last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def trainer_of(config: Sft, roles: Roles, talks: list[list[dict[str, str]]], run: Run, world: World) -> Any:
    """The trainer of the base's family, which trains the role."""
    base, masters = roles.base, [(parameter, parameter.data) for parameter in roles.parameters(ROLE)]
    family = Seq2SeqTrainer if base.is_encoder_decoder else SFTTrainer
    kind = scaled(shared(family, world), base)
    if base.is_encoder_decoder:
        return kind(
            model=roles.peft,
            args=Seq2SeqTrainingArguments(**arguments(config, base)),
            train_dataset=Dataset.from_list([tokenize_pair(base, talk, config.max_tokens) for talk in talks]),
            data_collator=DataCollatorForSeq2Seq(base.tokenizer, model=base.model),
            compute_loss_func=None if world.size == 1 else token_loss,
            callbacks=[Progress(run)],
        )
    trainer = kind(
        model=roles.peft,
        args=SFTConfig(completion_only_loss=True, max_length=config.max_tokens, **arguments(config, base)),
        train_dataset=Dataset.from_list([tokenize(base, talk) for talk in talks]),
        processing_class=base.tokenizer,
        callbacks=[Progress(run)],
    )
    for parameter, master in masters:  # of a quantised base trl has made them bf16, which loses small updates
        parameter.data = master
    return trainer


def tokenize(base: Base, messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """The ids that sampling will see, and which of them belong to the answer (its end token included)."""
    prompt = base.prompt_ids(messages[:-1])
    answer = base.response_ids(messages[-1]["content"], finished=True)
    return {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer)}


def tokenize_pair(base: Base, messages: list[dict[str, str]], most: int) -> dict[str, list[int]]:
    """The ids for the encoder, of a long prompt the last `most`, and those that the decoder shall say, the first `most`."""
    prompt, answer = base.prompt_ids(messages[:-1]), base.response_ids(messages[-1]["content"], finished=True)
    return {"input_ids": prompt[-most:], "labels": answer[:most]}


def arguments(config: Sft, base: Base) -> dict[str, Any]:
    """The configuration that both trainers know."""
    return dict(
        output_dir=str(config.folder / CHECKPOINTS), num_train_epochs=config.epochs, learning_rate=config.lr,
        per_device_train_batch_size=config.batch, lr_scheduler_type="linear", warmup_steps=2, logging_steps=1,
        save_strategy="steps", save_steps=config.save_every, save_total_limit=config.keep, report_to=[],
        seed=config.seed, gradient_checkpointing_kwargs={"use_reentrant": False},
        train_sampling_strategy="group_by_length", use_cpu=base.device.type == "cpu", bf16=False, fp16=False,
        gradient_checkpointing=config.checkpointing, disable_tqdm=True, dataloader_pin_memory=False, max_grad_norm=1.0,
        optim=IN_TRANSFORMERS[config.optimizer],
    )  # fmt: skip
