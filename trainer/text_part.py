"""Models that take pictures or sounds too: the part that reads and writes text is a model itself, and all that is used."""

from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

LAYERS, T5_LAYERS = ("num_hidden_layers",), ("num_layers", "num_decoder_layers")

# How the weights of the part are named within the whole model, in checkpoints of before transformers 4.52 and since then.
KEYS = {r"^language_model\.lm_head": "lm_head", r"^(model\.)?language_model\.(model\.)?": "model."}


def text_part(config: PretrainedConfig) -> PretrainedConfig | None:
    """The configuration of the text model in a model's own, which may be all of it: a decoder, or an encoder-decoder of T5's
    kind; None if there is none."""
    if config.is_encoder_decoder:
        return config if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING and has(config, T5_LAYERS) else None
    try:
        text: PretrainedConfig = config.get_text_config(decoder=True)
    except ValueError:  # it has several
        return None
    return text if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING and has(text, LAYERS) else None


def has(config: PretrainedConfig, names: tuple[str, ...]) -> bool:
    """Whether the configuration counts its layers under these names."""
    return all(isinstance(getattr(config, name, None), int) for name in names)


def out_of_whole(config: PretrainedConfig) -> dict[str, Any]:
    """What `from_pretrained` must be told to read the text part alone out of the whole model's weights; {} if it is all."""
    text = text_part(config)
    return {} if text is None or text is config else {"config": text, "key_mapping": KEYS}
