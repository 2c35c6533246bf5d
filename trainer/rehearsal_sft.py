"""A step of supervised fine-tuning on a base without data, as trl's SFTTrainer does it, or transformers' Seq2SeqTrainer."""

from collections.abc import Iterator
from typing import Any

import bitsandbytes as bnb
import torch
from trl.trainer.utils import add_fused_lm_head

from trainer.optimizers import optimizer_of
from trainer.rehearsal import Stand
from trainer.roles import Roles, lora_config
from trainer.sft import ROLE
from trainer.tally import ADAPTERS

IGNORED = -100  # a label that is no target


class Finetune:
    """An update on some demonstrations."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        base = stand.base
        if not base.is_encoder_decoder:
            add_fused_lm_head(base.model, outputs=("log_probs", "entropy", "is_top1"))
        with stand.tally.part(ADAPTERS):
            self.roles = Roles(base)
            self.roles.add(ROLE, lora_config(base, stand.ways.rank, 2 * stand.ways.rank))
        peft: Any = self.roles.peft
        self.model = peft
        self.model.train()
        for layer in self.model.modules():
            if stand.gpu and isinstance(layer, bnb.nn.Linear8bitLt):
                layer.training = False  # a CPU would take another way in training, a GPU never does
        if stand.ways.checkpointing:
            self.model.enable_input_require_grads()
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        parameters = self.roles.parameters(ROLE)
        self.optimizer = optimizer_of(stand.ways.resident, [{"params": parameters, "lr": 1e-4}])
        stand.optimizer(self.optimizer, parameters)

    def phases(self, units: int) -> Iterator[None]:
        self.optimizer.zero_grad(set_to_none=True)
        with self.roles.routed(ROLE):
            self.loss(units).backward()
        yield
        self.optimizer.step()
        yield

    def loss(self, units: int) -> Any:
        """A mean over the tokens of so many answers."""
        prompt, response = self.stand.shape.prompt, self.stand.shape.response
        if self.stand.base.is_encoder_decoder:
            ids, labels = (torch.ones(units, width, dtype=torch.long) for width in (prompt, response))
            return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        ids = torch.ones(units, prompt + response, dtype=torch.long)
        labels = ids.clone()
        labels[:, :prompt] = IGNORED
        mask = torch.ones_like(ids)
        out = self.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
        return -out.log_probs.sum() / out.label_mask.sum()
