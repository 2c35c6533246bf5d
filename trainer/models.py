"""One frozen base model, with its tokenizer and what its family asks for."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bitsandbytes as bnb
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PretrainedConfig,
)

from preferences.errors import RankloopError
from preferences.records import Message
from trainer.embedded import EMBEDDED, GGUF_SHA256, cache_folder, embedded_model
from trainer.fingerprint import fingerprint
from trainer.head import check_head
from trainer.kept_base import KeptBase
from trainer.quick import quicken
from trainer.templates import earlier, held, plain_template
from trainer.text_part import out_of_whole

Quantization = Literal["none", "int8", "nf4"]

SAFE: dict[str, Any] = {
    "use_safetensors": True,
    "trust_remote_code": False,
}  # no pickle, no code from model repositories

# Decoders whose activations grow beyond what fp16 holds (65504), of those that vLLM refuses to run in it
# (vllm/config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS, of 2025). A Gemma 2 that caps its logits is not taken at all.
# Encoder-decoders (T5's feed-forward) join them.
IN_BF16 = {"gemma2", "gemma3", "gemma3_text", "glm4"}

# What decides the numbers of a quantised layer. int8 with threshold 0: a row then does not depend on its batch. nf4 with the
# blocks' scales in 8 bits as well (arXiv 2305.14314, section 3): 0.37 bits a weight less, 0.9 GiB of 20 billion.
NUMBERS: dict[Quantization, dict[str, Any]] = {
    "none": {},
    "int8": {"llm_int8_threshold": 0.0},
    "nf4": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
}


class UnknownModel(RankloopError):
    """The model cannot be loaded by that name."""


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen model. `stop_ids`: tokens that end an answer; the first is the one that training appends. `weights`: their
    fingerprint, "" if they are not there to be looked at."""

    model: Any
    tokenizer: Any
    id: str
    quantization: Quantization
    device: torch.device
    stop_ids: tuple[int, ...]
    pad_id: int
    is_encoder_decoder: bool
    weights: str = ""

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of the conversation up to the place where the answer begins."""
        encoded = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])

    def response_ids(self, text: str, finished: bool) -> list[int]:
        """Token ids of an answer; with the end token only if the model ended it itself."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.stop_ids[0]] if finished else ids

    def text(self, response_ids: list[int]) -> str:
        """The answer that the token ids spell, without special tokens."""
        decoded: str = self.tokenizer.decode(response_ids, skip_special_tokens=True)
        return decoded.strip()

    @property
    def template_hash(self) -> str:
        """Which chat template made the prompts, its mode and date included."""
        return short_hash(self.tokenizer.chat_template)

    @property
    def tokenizer_hash(self) -> str:
        """Which tokenizer made the ids: its vocabulary, special tokens and chat template."""
        return self._tokenizer_hash(self.tokenizer.chat_template)

    def _tokenizer_hash(self, template: str) -> str:
        parts = [sorted(self.tokenizer.get_vocab().items()), self.stop_ids, self.pad_id, short_hash(template)]
        return short_hash(json.dumps(parts))

    def earlier_template(self, tokenizer_hash: str) -> str | None:
        """How the chat template of that hash differs from today's, if it is one that this program had for the base before."""
        if tokenizer_hash == self.tokenizer_hash:
            return None
        known = earlier(self.tokenizer.chat_template)
        return next((how for how, one in known.items() if self._tokenizer_hash(one) == tokenizer_hash), None)

    @property
    def called(self) -> dict[str, str]:
        """What ids of policies are made of, on every host alike."""
        return {"base": self.id, "quantization": self.quantization, "tokenizer": self.tokenizer_hash}

    @property
    def identity(self) -> dict[str, Any]:
        """What an adapter must agree with to be loaded onto this base."""
        return {**self.called, "weights": self.weights, "quantization_config": NUMBERS[self.quantization]}


def short_hash(text: str) -> str:
    """16 letters of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def default_device() -> torch.device:
    """CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_quantization(device: torch.device) -> Quantization:
    """int8 on CUDA, none on the CPU."""
    return "int8" if device.type == "cuda" else "none"


def compute_dtype(device: torch.device, config: PretrainedConfig) -> torch.dtype:
    """fp32 on the CPU (bf16 is slower there); on CUDA fp16, and bf16 for what overflows in fp16."""
    if device.type == "cpu":
        return torch.float32
    overflows = config.is_encoder_decoder or config.model_type in IN_BF16
    return torch.bfloat16 if overflows else torch.float16


def load_base(
    name: str, quantization: Quantization | None = None, device: torch.device | None = None,
    dtype: torch.dtype | None = None, sharded: bool = False, computing: torch.device | None = None,
) -> Base:  # fmt: skip
    """The model of a hub id, a local folder, or the embedded one, frozen. Raises UnknownModel, and RankloopError for a model
    that `check_head` refuses (its caller asks that of one that it takes to parts).

    `quantization` None means the device's default, `dtype` None the type that the device computes in, or the one that is
    `computing` if that is another. `sharded`: it will be taken to parts, for which 4-bit weights must be stored as numbers of
    the type that is computed in.
    """
    device = device or default_device()
    if device.type == "cuda":
        repeatable()
    quantization = quantization or default_quantization(device)
    with one_sentence(name):
        source = source_of(name)
        check_weights(source)
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        part = out_of_whole(config)
        dtype = dtype or compute_dtype(computing or device, part.get("config", config))
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        wanted = quantization_config(quantization, dtype, dtype if sharded else torch.uint8)
        kept = KeptBase.of(source, wanted, dtype) if wanted else None
        place: dict[str, Any] = {"pretrained_model_name_or_path": source, **part}
        if kept:  # what is kept says itself how it is quantised
            place = (
                {"pretrained_model_name_or_path": kept.folder}
                if kept.there
                else place | {"quantization_config": wanted}
            )
        model, said = auto.from_pretrained(
            **place, dtype=dtype, device_map={"": device}, output_loading_info=True, **SAFE
        )
        if part and said["missing_keys"]:
            raise OSError(f"its text model lacks {min(said['missing_keys'])}")
        weights = weights_of(name, source) or (kept.weights if kept else "")
        if kept and not kept.there:
            kept.keep(model, weights)
        model.name_or_path = str(source)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    freeze(model)
    base = described(model, model.config, model.generation_config, tokenizer, name, quantization, device, weights)
    if not sharded and (device.type != "cpu" or dtype == torch.float32):  # to multiply in 16 bits takes a CPU long
        check_head(base)
    return base


def base_without_model(name: str) -> Base:
    """What is known of a base before its weights are loaded: its `model` is None. Raises UnknownModel."""
    with one_sentence(name):
        source = source_of(name)
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        try:
            generation = GenerationConfig.from_pretrained(source)
        except OSError:  # none was published; this is what a model makes of its configuration then
            generation = GenerationConfig.from_model_config(config)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        weights = weights_of(name, source)
    return described(None, config, generation, tokenizer, name, "none", torch.device("cpu"), weights)


def source_of(name: str) -> str | Path:
    """Where transformers finds a model."""
    return embedded_model(cache_folder()) if name == EMBEDDED else name


def weights_of(name: str, source: str | Path) -> str:
    """The fingerprint of the published weights; of the embedded model that of the file that it is converted from, since what
    the conversion writes may differ from version to version."""
    return GGUF_SHA256[:16] if name == EMBEDDED else fingerprint(source)


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Raises UnknownModel for whatever transformers and safetensors raise within."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnknownModel(
            f"The model {name!r} could not be loaded ({reason}); give --model a folder, a hub id, or {EMBEDDED}."
        ) from error


def repeatable() -> None:
    """Have a GPU add up in the same order every time, so that a run can be repeated, and gone on with, to the last bit.

    What torch cannot do in a fixed order it goes on doing in any.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def check_weights(source: str | Path) -> None:
    """Raises UnknownModel for a folder whose weights are pickles: reading one could run any program."""
    folder = Path(source)
    if folder.is_dir() and not list(folder.glob("*.safetensors")) and (pickles := sorted(folder.glob("*.bin"))):
        raise UnknownModel(
            f"The model {str(source)!r} has its weights in {pickles[0].name}, a pickle, which could run any program when it "
            "is read; only safetensors are loaded. docs/models.md says how to convert them."
        )


def freeze(model: Any) -> None:
    """No gradients, no dropout."""
    model.requires_grad_(False)
    model.eval()
    tame(model)
    quicken(model)


def described(
    model: Any, config: Any, generation: Any, tokenizer: Any, name: str, quantization: Quantization, device: torch.device,
    weights: str,
) -> Base:  # fmt: skip
    """A Base with a pad token that is not an end token, and a chat template that makes the same prompts every day."""
    seq2seq = bool(config.is_encoder_decoder)
    own = tokenizer.get_chat_template() if tokenizer.chat_template else plain_template(tokenizer, ends=seq2seq)
    tokenizer.chat_template = held(own)
    stop_ids = end_tokens(generation, tokenizer)
    pad_id = pad_token(tokenizer, stop_ids)
    return Base(model, tokenizer, str(name), quantization, device, stop_ids, pad_id, seq2seq, weights)


def tame(model: Any) -> None:
    """What bitsandbytes' layers do that those of a frozen base must not.

    In 4 bits, on CPUs that know bf16, they repack their weights for a kernel that rounds to it and has no gradients. In 8
    bits they keep their input for a gradient of their weights, and gradient checkpointing does not reach it there.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, bnb.nn.Linear8bitLt):
            module.register_forward_hook(forget_input)


def forget_input(layer: nn.Module, args: Any, out: Tensor) -> None:  # noqa: ARG001 - a hook's arguments
    """Have the graph of an int8 layer's output let go of the input."""
    step: Any = out.grad_fn
    if hasattr(step, "tensors"):
        step.tensors = (None, None, None)
    elif hasattr(step, "A"):  # the way that bitsandbytes takes on CPUs
        step.A = None


def end_tokens(generation: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokenizer's end token first, then the other ones that the generation's configuration stops at."""
    configured = generation.eos_token_id
    others = configured if isinstance(configured, list) else [configured]
    ids = dict.fromkeys([tokenizer.eos_token_id, *others])
    return tuple(token for token in ids if token is not None)


def pad_token(tokenizer: Any, stop_ids: tuple[int, ...]) -> int:
    """A token for padding that does not end an answer: the tokenizer's own, its unknown token, or id 0."""
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id, 0):
        if token is not None and token not in stop_ids:
            return int(token)
    return next(token for token in range(len(tokenizer)) if token not in stop_ids)


def quantization_config(
    quantization: Quantization, dtype: torch.dtype, storage: torch.dtype = torch.uint8
) -> BitsAndBytesConfig | None:
    """How bitsandbytes loads the base."""
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, **NUMBERS[quantization])
    if quantization == "nf4":
        place = {"bnb_4bit_compute_dtype": dtype, "bnb_4bit_quant_storage": storage}
        return BitsAndBytesConfig(load_in_4bit=True, **place, **NUMBERS[quantization])
    return None
