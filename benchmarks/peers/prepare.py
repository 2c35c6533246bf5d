"""Once before the runs, in our own Python: the base model in a form that old transformers read too, the prompts as token ids,
and a reward model for ours."""

import json
import math
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from protocol import serve

from preferences.records import content_id
from trainer.embedded import EMBEDDED, cache_folder, embedded_model, put_in_place
from trainer.models import Base, load_base
from trainer.roles import Roles, lora_config

NO_TOKEN = -1  # as the only end token: no answer ends


def export(name: str, cache: Path) -> Path:
    """A copy of the model's folder whose configuration names things the old way as well; made once."""
    source = embedded_model(cache_folder()) if name == EMBEDDED else Path(name).resolve()
    written = (source / "model.safetensors").stat()
    target = cache / f"model-{content_id(str(source), written.st_size, written.st_mtime_ns)}"
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        for file in source.iterdir():
            copy(file, folder / file.name)
        rewrite(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
        theta = json.loads((source / "config.json").read_text())["rope_parameters"]["rope_theta"]
        rewrite(folder / "config.json", {"rope_theta": theta, "torch_dtype": "float32"})
        put_in_place(folder, target)
    return target


def copy(source: Path, target: Path) -> None:
    """Hard link what is large, if the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def rewrite(file: Path, changes: dict[str, Any]) -> None:
    """Change keys of a JSON file without touching the file that it was linked to."""
    document = {**json.loads(file.read_text()), **changes}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(file)


def base_of(settings: dict[str, Any]) -> Base:
    """The base model; if the end of an answer is ignored, without a token that ends one."""
    base = load_base(settings["model"], "none", torch.device("cpu"))
    return replace(base, stop_ids=(NO_TOKEN,)) if settings["ignore_eos"] else base


def save_reward(base: Base, folder: Path, rank: int, seed: int) -> Path:
    """An untrained reward model: what its passes cost does not depend on its weights."""
    torch.manual_seed(seed)
    roles = Roles(base)
    roles.add("reward", lora_config(base, rank, 2 * rank))
    torch.nn.init.normal_(roles.add_head("reward").weight, std=1 / math.sqrt(roles.hidden_size + 1))
    roles.save("reward", folder, {"kind": "reward", "mean": 0.0, "std": 1.0, "data_hash": "none", "comparisons": 0})
    return folder


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """{"model", "reward": folders, "prompts": token ids}."""
    folder = Path(settings["folder"])
    settings = {**settings, "model": str(export(settings["model"], Path(settings["cache"])))}
    base = base_of(settings)
    ids = [base.prompt_ids(messages) for messages in settings["messages"]]
    reward = save_reward(base, folder / "reward", settings["rank"], settings["seed"])
    return {"model": settings["model"], "reward": str(reward), "prompts": ids}


if __name__ == "__main__":
    serve(run)
