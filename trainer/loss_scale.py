"""Gradients that fp16 can hold: transformers' trainers on a base whose passes run in it."""

from typing import Any

import torch
from torch import Tensor

from trainer.models import Base

SCALE = 2.0**10  # about the tokens of a batch: gradients as large as those of a summed loss, which PPO takes


def scaled(trainer: Any, base: Base) -> Any:
    """The same trainer, and on a base in fp16 one with torch's GradScaler (arXiv 1710.03740, section 3.2).

    The loss is a mean over a batch's tokens, so a gradient of one activation is often less than 6e-8, which fp16 makes 0. A
    larger loss has larger ones; the trained parameters are in 32 bits, and theirs are divided there. An update that is not
    finite is skipped, and the next one has half the scale. It is kept with checkpoints. accelerate would put autocast
    around the model besides, and passes would not be those of sampling and PPO.
    """
    if base.model.dtype != torch.float16:
        return trainer

    class Scaled(trainer):  # type: ignore[misc]
        """Its accelerator scales, as it would with mixed precision."""

        def create_accelerator_and_postprocess(self) -> None:
            """With a scaler, which it takes for backward passes and steps."""
            super().create_accelerator_and_postprocess()
            self.accelerator.scaler = torch.amp.GradScaler(base.device.type, init_scale=SCALE)

        def _clip_grad_norm(self, model: Any) -> Tensor:
            self.accelerator.scaler.unscale_(self.optimizer.optimizer)
            norm: Tensor = super()._clip_grad_norm(model)
            return norm

    return Scaled
