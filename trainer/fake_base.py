"""A frozen base without data, as `models.load_base` would have it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PretrainedConfig
from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer
from transformers.quantizers.quantizer_bnb_8bit import Bnb8BitHfQuantizer

from trainer.models import Base, Quantization, quantization_config, tame
from trainer.quick import quicken

CPU = torch.device("cpu")
QUANTIZERS = {"int8": Bnb8BitHfQuantizer, "nf4": Bnb4BitHfQuantizer}


def empty_model(config: PretrainedConfig, quantization: Quantization, dtype: torch.dtype) -> Any:
    """The model's modules, on no device: quantised layers are where `from_pretrained` puts them."""
    with unset_fake_temporarily():  # bitsandbytes' own tensors cannot be made of those without data
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        with torch.device("meta"):
            model = auto.from_config(config, dtype=dtype)
            if not getattr(config, "scale_decoder_outputs", True):
                untie(model)
        if quantization != "none":
            quantizer = QUANTIZERS[quantization](quantization_config(quantization, dtype), pre_quantized=False)
            quantizer.preprocess_model(model, device_map={"": CPU})
            quantizer.postprocess_model(model)
            model.hf_quantizer = quantizer
    return model


def untie(model: Any) -> None:
    """A head of its own, as the checkpoints of T5 v1.1 have; transformers ties it until it sees them."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(torch.empty_like(head.weight))


def fill(model: Any) -> None:
    """Give the modules tensors without data, quantised where they are; runs within `without_data`."""
    made: dict[int, nn.Parameter] = {}
    for name, module in list(model.named_modules()):
        for key, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    weight = torch.empty(parameter.shape, dtype=dtype_of(model, name, parameter))
                    made[id(parameter)] = frozen(module, key, weight)
                module._parameters[key] = made[id(parameter)]
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype)


def dtype_of(model: Any, name: str, parameter: Tensor) -> torch.dtype:
    """transformers keeps some layers of some models in 32 bits where the others have 16."""
    kept = set(model._keep_in_fp32_modules_strict or ())
    if model.dtype == torch.float16:
        kept |= set(model._keep_in_fp32_modules or ())
    wanted: torch.dtype = torch.float32 if kept & set(name.split(".")) else model.dtype
    return wanted if parameter.dtype.is_floating_point else parameter.dtype


def frozen(module: nn.Module, key: str, weight: Tensor) -> nn.Parameter:
    """The parameter as bitsandbytes holds it."""
    import bitsandbytes as bnb

    if key == "weight" and isinstance(module, bnb.nn.Linear8bitLt):
        codes, scales, _ = bnb.functional.int8_vectorwise_quant(weight.to(torch.float16))
        eight: Any = nn.Parameter(codes, requires_grad=False)
        eight.CB, eight.SCB, eight.has_fp16_weights = codes, scales, False
        return eight  # type: ignore[no-any-return]
    if key == "weight" and isinstance(module, bnb.nn.Linear4bit):
        old: Any = module.weight
        kept = {name: getattr(old, name) for name in ("compress_statistics", "quant_type", "quant_storage")}
        codes, state = bnb.functional.quantize_4bit(weight, blocksize=old.blocksize, **kept)
        four: Any = nn.Parameter(codes, requires_grad=False)
        four.quant_state, four.bnb_quantized, four.blocksize = state, True, old.blocksize
        for name, value in kept.items():
            setattr(four, name, value)
        return four  # type: ignore[no-any-return]
    return nn.Parameter(weight, requires_grad=False)


def fake_base(model: Any, name: str, quantization: Quantization) -> Base:
    """The base of an `empty_model`, without a tokenizer; runs within `without_data`."""
    fill(model)
    tame(model)
    quicken(model)
    model.eval()
    return Base(model, None, name, quantization, CPU, (1,), 0, bool(model.config.is_encoder_decoder))
