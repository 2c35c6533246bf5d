"""A model of the true shape with random weights, so that a card can be tried without a download."""

import json
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from tests.tiny import tiny_tokenizer
from trainer.fake_base import empty_model
from trainer.known_models import find_config

SHARD = 4 * 10**9  # bytes
SPREAD = 0.02  # of the weights, as most models begin


def write_random(name: str, folder: Path, device: torch.device) -> Path:
    """Weights, configuration and tokenizer of a known model in a folder that `load_base` takes; the folder.

    The weights are drawn on the device, in the type of the published ones. Raises UnknownModel.
    """
    config, checkpoint, _ = find_config(name)
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    shapes = dict(empty_model(config, "none", getattr(torch, checkpoint)).named_parameters())
    split = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)
    generator = torch.Generator(device).manual_seed(0)
    for file, names in tqdm(split.filename_to_tensors.items(), desc=f"random {name}", unit="shard"):
        save_file({key: drawn(key, shapes[key], generator).cpu() for key in names}, folder / file, {"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def drawn(key: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """Matrices at random; of vectors, weights (those of norms) are 1 and biases 0."""
    made = torch.zeros(like.shape, dtype=like.dtype, device=generator.device)
    if like.dim() > 1:
        return made.normal_(0, SPREAD, generator=generator)
    return made.fill_(float(key.endswith("weight")))
