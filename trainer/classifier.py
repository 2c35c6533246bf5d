"""A reward model as transformers' sequence classifier, with the same scores.

transformers' heads have no bias, and a normalised score has a constant: (w h + b - mean) / std. Where the last norm has a
bias it can take the constant up; where it has none (RMSNorm), the head gets a bias by a class of its own, which travels with
the model. Loaded as the plain class of its architecture, such a model's scores are all off by that constant.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from trainer.adapters import checked_weights
from trainer.batches import Example, pad
from trainer.depth import with_layers
from trainer.exits import find_stack, stack_of
from trainer.models import Base

LAST_NORM = {"gpt_neox": "final_layer_norm", "bloom": "ln_f", "opt": "decoder.final_layer_norm"}  # those with a bias

MODULE, CLASS = "reward_classifier", "RewardClassifier"
CODE = '''"""{parent} whose head has a bias, so that its scores have the zero that rankloop gave them."""

from torch import nn
from transformers import {parent}


class {name}({parent}):
    def __init__(self, config):
        super().__init__(config)
        self.score = nn.Linear(config.hidden_size, 1)
        self.post_init()
'''


def as_classifier(model: Any, pad_id: int, head: Path, mean: float, std: float, out: Path) -> Any:
    """Write a decoder-only model (with a language-model head) as a classifier of one label, which is the normalised score;
    the classifier. `head`: file of the scalar head, `mean` and `std` of its raw scores."""
    state = checked_weights(head)
    weight, offset = state["weight"] / std, (float(state["bias"]) - mean) / std
    model.config.num_labels, model.config.pad_token_id = 1, pad_id
    with torch.device("meta"):
        found = AutoModelForSequenceClassification.from_config(model.config, dtype=model.dtype)
    setattr(found, found.base_model_prefix, model.base_model)
    norm = LAST_NORM.get(model.config.model_type)
    found.score = nn.Linear(weight.shape[1], 1, bias=norm is None, dtype=model.dtype)
    with torch.no_grad():
        found.score.weight.copy_(weight)
        if norm is None:
            found.score.bias.fill_(offset)
        else:
            lift(found.base_model.get_submodule(norm).bias, weight[0], offset)
    if norm is None:
        out.mkdir(parents=True, exist_ok=True)
        parent = type(found).__name__
        (out / f"{MODULE}.py").write_text(CODE.format(parent=parent, name=CLASS))
        found.config.auto_map = {"AutoModelForSequenceClassification": f"{MODULE}.{CLASS}"}
    found.eval().save_pretrained(out)
    return found


def shorten(base: Base, layers: int) -> None:
    """Take the layers above so many off for good: what a reward model that reads a lower layer never runs."""
    stack = stack_of(base)
    parent, name = find_stack(base.model, stack)
    setattr(parent, name, stack[:layers])
    base.model.config = base.model.base_model.config = with_layers(base.model.config, layers)


def lift(bias: Tensor, weight: Tensor, offset: float) -> None:
    """Add to the bias (hidden,) what adds `offset` to every product with the weight (hidden,)."""
    bias.add_((offset * weight / (weight @ weight)).to(bias.dtype))


@torch.no_grad()
def kept_scores(model: Any, examples: Sequence[Example], pad_id: int) -> list[float]:
    """The classifier's scores of some answers behind their prompts."""
    ids, mask = pad([example.prompt + example.response for example in examples], pad_id, model.device)
    found: list[float] = model(input_ids=ids, attention_mask=mask.long()).logits.squeeze(-1).tolist()
    return found
