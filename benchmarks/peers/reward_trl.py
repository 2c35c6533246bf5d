"""TRL's RewardTrainer with LoRA on the expanded pairs, as its documentation sets it up; the token ids are those of ours."""

import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from protocol import serve, versions
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Train once; seconds of training, pairs that it learned from, and the scores of the held-out answers."""
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    model = AutoModelForSequenceClassification.from_pretrained(settings["model"], num_labels=1, dtype=torch.float32)
    tokenizer.pad_token_id = model.config.pad_token_id = settings["pad"]
    pairs = [
        {"chosen_ids": one["prompt"] + one["responses"][b], "rejected_ids": one["prompt"] + one["responses"][w]}
        for one in settings["train"]
        for b, w in one["pairs"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder, seed=settings["seed"], num_train_epochs=settings["epochs"], use_cpu=True, bf16=False,
            per_device_train_batch_size=settings["micro_batch"], max_length=None, save_strategy="no", report_to=[],
            gradient_accumulation_steps=max(1, settings["pairs_an_update"] // settings["micro_batch"]),
            **settings["options"],
        )  # fmt: skip
        lora = LoraConfig(
            r=settings["rank"], lora_alpha=2 * settings["rank"], target_modules="all-linear", task_type="SEQ_CLS",
            modules_to_save=["score"],
        )  # fmt: skip
        trainer = RewardTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(pairs),
            processing_class=tokenizer,
            peft_config=lora,
        )
        started, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "pairs": settings["epochs"] * len(pairs),
        "scores": scores(trainer.model, settings), "threads": torch.get_num_threads(), "options": settings["options"],
        "versions": versions("trl", "torch", "transformers", "peft"),
        "gradient_checkpointing": bool(trainer.args.gradient_checkpointing), "learning_rate": trainer.args.learning_rate,
    }  # fmt: skip


@torch.no_grad()
def scores(model: Any, settings: dict[str, Any]) -> list[list[float]]:
    """One row at a time, so that no padding has a part."""
    model.eval()
    return [
        [float(model(input_ids=torch.tensor([one["prompt"] + response])).logits[0, 0]) for response in one["responses"]]
        for one in settings["held"]
    ]


if __name__ == "__main__":
    serve(run)
