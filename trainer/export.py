"""`trainer export`: a trained adapter for other programs, alone or merged into the base's own 16-bit weights."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel

from preferences.errors import RankloopError
from preferences.run_files import CARD, WEIGHTS
from trainer.adapters import WrongAdapter, check_template, checked_config, checked_weights
from trainer.classifier import as_classifier, kept_scores, shorten
from trainer.ensemble import FILE as ENSEMBLE
from trainer.exits import checked_layers, named_layers
from trainer.models import Base, base_without_model, load_base
from trainer.recheck import FILE as RECHECK
from trainer.recheck import read_recheck
from trainer.roles import HEAD, same_weights

ALONE = ("adapter_config.json", "adapter_model.safetensors", HEAD, CARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Write a trained adapter for other programs. docs/export.md says which load what."""

    adapter: Path
    """The 'adapter' folder of a run."""
    out: Path
    """Folder to write."""
    merge: bool = False
    """Merge it into the base: a whole model; a reward model becomes a sequence classifier."""
    dtype: Literal["float16", "bfloat16", "float32"] | None = None
    """Type of the merged weights; default what a GPU computes in: float16, and bfloat16 for T5 and Gemma."""
    model: str | None = None
    """The base, if it has another name here; default the one that the adapter was trained on."""
    json: bool = False
    """Print one JSON document alone on stdout."""


def export(config: Export) -> dict[str, Any]:
    """{"out", "kind", "merged"}, and of a merged reward model "scores_off": how far the scores of the answers that travel
    with it are from what they were, in standard deviations. Raises WrongAdapter, RankloopError, UnknownModel.
    """
    card = card_of(config.adapter)
    if config.out.exists() and any(config.out.iterdir()):
        raise RankloopError(f"{config.out} is not empty; give another --out.")
    base = base_without_model(config.model or card["base"])
    check_base(base, card, config.adapter)
    if config.merge:
        if card["kind"] == "reward":
            check_classifier(base, card, config.adapter)
        dtype = getattr(torch, config.dtype) if config.dtype else None
        cpu, gpu = torch.device("cpu"), torch.device("cuda")
        base = load_base(base.id, "none", cpu, dtype, computing=gpu)
        check_base(base, card, config.adapter)  # of a hub id, now that its weights are there
    found = {"out": str(config.out), "kind": card["kind"], "merged": config.merge}
    if not config.merge:
        write_alone(config.adapter, config.out)
    elif card["kind"] == "reward":
        found["scores_off"] = write_classifier(base, config.adapter, card, config.out)
    else:
        merged(base, config.adapter).save_pretrained(config.out)
    base.tokenizer.save_pretrained(config.out)
    return found


def card_of(adapter: Path) -> dict[str, Any]:
    """What the adapter belongs to. Raises WrongAdapter if it is none, or several."""
    if (adapter / ENSEMBLE).is_file():
        raise WrongAdapter(f"{adapter} is an ensemble; export its members one by one, {adapter / 'member-0'} first.")
    try:
        card: dict[str, Any] = json.loads((adapter / CARD).read_text())
    except (OSError, ValueError) as error:
        raise WrongAdapter(
            f"{adapter} holds no rankloop adapter ({error}); give the 'adapter' folder of a run."
        ) from error
    checked_config(adapter)
    checked_weights(adapter / WEIGHTS)
    return {"kind": "policy", **card}


def write_alone(adapter: Path, out: Path) -> None:
    """The adapter's own files."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ALONE:
        if (adapter / name).is_file():
            shutil.copy(adapter / name, out / name)


def check_base(base: Base, card: dict[str, Any], adapter: Path) -> None:
    """Raises WrongAdapter if the adapter is known to be another base's; another quantisation's it may be."""
    check_template(adapter, card, base)
    remedy = "give --model the base that it was trained on."
    if base.tokenizer_hash != card["tokenizer"]:
        raise WrongAdapter(f"The adapter {adapter} was trained with another tokenizer than that of {base.id}; {remedy}")
    if same_weights(card, base) is False:
        raise WrongAdapter(
            f"The adapter {adapter} was trained with the weights of {card['base']} {card['weights']!r}, and those of "
            f"{base.id} are {base.weights!r}; {remedy}"
        )


def check_classifier(base: Base, card: dict[str, Any], adapter: Path) -> None:
    """Raises RankloopError if a reward model reads what no sequence classifier does: another model's state, or a mean."""
    if base.is_encoder_decoder:
        raise RankloopError(
            f"{base.id} is an encoder-decoder, whose sequence classifiers read another state than rankloop's reward models; "
            "export the adapter without --merge."
        )
    means = {
        ("an answer's states", "--pooling last"): card.get("pooling", "last") != "last",
        ("several layers", "--layer and one number"): len(named_layers(card.get("layer"))) > 1,
    }
    for (what, remedy), reads in means.items():
        if reads:
            raise RankloopError(
                f"The reward model {adapter} reads the mean of {what}, which no sequence classifier does; "
                f"export it without --merge, or train one with {remedy}."
            )


def merged(base: Base, adapter: Path) -> Any:
    """The base's model with the adapter added to its weights (arXiv 2106.09685, section 4.1)."""
    return PeftModel.from_pretrained(base.model, adapter).merge_and_unload(safe_merge=True)


def write_classifier(base: Base, adapter: Path, card: dict[str, Any], out: Path) -> float | None:
    """A merged reward model as a sequence classifier; how far its scores are off, None if no answers travel with it."""
    model = merged(base, adapter)
    if layers := checked_layers(card.get("layer"), base):
        shorten(base, layers[-1])
    model = as_classifier(model, base.pad_id, adapter / HEAD, card["mean"], card["std"], out)
    if not (adapter / RECHECK).is_file():
        return None
    kept = read_recheck(adapter / RECHECK)
    found = kept_scores(model, kept.examples, base.pad_id)
    return max(abs(a - b) for a, b in zip(found, kept.scores, strict=True))
