"""A step of supervised fine-tuning on a base without data, as trl's SFTTrainer does it, or transformers' Seq2SeqTrainer."""

from collections.abc import Iterator
from typing import Any

import bitsandbytes as bnb
import torch
from peft import get_peft_model
from torch import nn
from trl.trainer.utils import add_fused_lm_head

from trainer.rehearsal import Stand
from trainer.roles import lora_config
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
            self.model: Any = get_peft_model(base.model, lora_config(base, stand.ways.rank, 2 * stand.ways.rank))
            if base.quantization != "none" and not base.is_encoder_decoder:
                in_bf16(self.model)
        self.model.train()
        for layer in self.model.modules():
            if stand.gpu and isinstance(layer, bnb.nn.Linear8bitLt):
                layer.training = False  # a CPU would take another way in training, a GPU never does
        if stand.ways.checkpointing:
            self.model.enable_input_require_grads()
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters)
        stand.optimizer(self.optimizer, parameters)

    def phases(self, units: int) -> Iterator[None]:
        self.optimizer.zero_grad(set_to_none=True)
        prompt, response = self.stand.shape.prompt, self.stand.shape.response
        if self.stand.base.is_encoder_decoder:
            ids, labels = (torch.ones(units, width, dtype=torch.long) for width in (prompt, response))
            loss = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        else:
            ids = torch.ones(units, prompt + response, dtype=torch.long)
            labels = ids.clone()
            labels[:, :prompt] = IGNORED
            mask = torch.ones_like(ids)
            out = self.model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
            loss = -out.log_probs.sum() / out.label_mask.sum()
        loss.backward()
        yield
        self.optimizer.step()
        yield


def in_bf16(model: nn.Module) -> None:
    """Trained parameters in 16 bits, as trl has those on a quantised base."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad:
                module._parameters[name] = nn.Parameter(parameter.detach().to(torch.bfloat16))
