"""The language-model head by itself, which every stage puts on the states that it needs and on no others."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from preferences.errors import RankloopError

if TYPE_CHECKING:
    from trainer.models import Base

TRIAL = (5, 6, 7, 8)  # any tokens
TOLERANCE = (
    0.01  # of the largest logit: far above rounding, far below what scaling or capping does to a trained model's
)
USUAL = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1}  # in a model's configuration


def head_logits(model: Any, states: Tensor) -> Tensor:
    """(..., vocabulary) in fp32, from states (..., hidden)."""
    if getattr(model.config, "scale_decoder_outputs", False):
        states = states * model.config.d_model**-0.5
    head = model.get_output_embeddings()
    logits: Tensor = head(states.to(head.weight.dtype))
    return logits.float()


def changes_logits(config: Any) -> bool:
    """Whether a model's configuration says that it scales or caps its logits; `check_head` asks the model itself."""
    text = config.get_text_config()
    return any(getattr(text, name, None) not in (None, usual) for name, usual in USUAL.items())


@torch.no_grad()
def check_head(base: "Base") -> None:
    """Raises RankloopError if the model's logits are not its head's: some scale or cap them afterwards, and log-probabilities
    without that would be those of no model."""
    model, ids = base.model, torch.tensor([TRIAL], device=base.device)
    if base.is_encoder_decoder:
        read = model.encoder(input_ids=ids)[0]
        states = model.decoder(input_ids=ids, encoder_hidden_states=read, use_cache=False)[0]
        own = model(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits
    else:
        states = model.base_model(input_ids=ids, use_cache=False)[0]
        own = model(input_ids=ids, use_cache=False).logits
    off, largest = (head_logits(model, states) - own.float()).abs().max(), own.float().abs().max()
    if off > TOLERANCE * largest:
        raise RankloopError(
            f"{base.id} ({model.config.model_type}) changes its logits behind the head, by {float(off / largest):.0%} of the "
            "largest, as no stage here does; take a model of another family (docs/models.md)."
        )
