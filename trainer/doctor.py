"""Whether this machine can do what the trainer needs; each finding with its remedy."""

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from trainer.embedded import EMBEDDED, cache_folder
from trainer.room import available_memory

State = Literal["ok", "note", "bad"]

GIB = 2**30
ENOUGH_RAM = 8.0  # GiB: what the embedded model's stages take, and a little
ENOUGH_DISK = 10.0  # GiB: a small model, its checkpoints and the database
PACKAGE, EXTRA = "rankloop", "train"
LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Look at driver, CUDA, bitsandbytes' kernels, bf16, memory, disk, versions and caches; a remedy for what is amiss."""

    json: bool = False
    """Print one JSON document alone on stdout."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `state`: ok, worth a note, or bad: something of the trainer will not work. `remedy`: empty if ok."""

    what: str
    state: State
    found: str
    remedy: str = ""


def doctor(_: Doctor) -> list[Finding]:
    """All findings, in the order in which one would look."""
    checks: tuple[Callable[[], Finding], ...] = (
        driver, cuda, video_memory, int8_kernels, nf4_kernels, half_precision, host_memory, disk, versions, embedded,
        hub_cache,
    )  # fmt: skip
    return [check() for check in checks]


def device() -> torch.device:
    """What training would use."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def driver() -> Finding:
    """The NVIDIA driver, by nvidia-smi."""
    remedy = "Fine for the small models on the CPU; for a GPU install NVIDIA's driver, and nvidia-smi comes with it."
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        reason = "nvidia-smi is not there" if isinstance(error, FileNotFoundError) else "nvidia-smi fails"
        return Finding("driver", "note", reason, remedy)
    return Finding("driver", "ok", "; ".join(done.stdout.strip().splitlines()))


def cuda() -> Finding:
    """torch's build, and whether it sees a GPU."""
    build = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        return Finding("cuda", "ok", f"{build}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    if shutil.which("nvidia-smi") is None:
        return Finding("cuda", "note", f"{build}; training runs on the CPU", "Nothing to do without a GPU.")
    remedy = (
        "Reinstall with `scripts/install --gpu`."
        if torch.version.cuda is None
        else "The driver is older than this CUDA: update it, or install an older torch."
    )
    return Finding("cuda", "bad", f"{build} sees no GPU though there is a driver", remedy)


def video_memory() -> Finding:
    """Free and total memory of the GPU."""
    if device().type != "cuda":
        return Finding("vram", "note", "no GPU", "Nothing to do without a GPU.")
    free, total = (size / GIB for size in torch.cuda.mem_get_info())
    found = f"{free:.1f} of {total:.1f} GiB free"
    if free < 0.85 * total:
        return Finding("vram", "note", found, "Another program holds the rest; nvidia-smi lists it.")
    return Finding("vram", "ok", found)


def int8_kernels() -> Finding:
    """A product of bytes by bitsandbytes, against the plain one."""
    return kernel("int8", int8_error)


def nf4_kernels() -> Finding:
    """A 4-bit product by bitsandbytes, against the plain one."""
    return kernel("nf4", nf4_error)


def kernel(name: str, error_of: Callable[[torch.device], float]) -> Finding:
    """Whether a quantised product is near the plain one."""
    remedy = "`python -m bitsandbytes` says why; reinstall bitsandbytes, or use --quantize none."
    try:
        error = error_of(device())
    except (
        Exception
    ) as error_:  # a missing library, an unsupported GPU, a kernel that fails: each has its own exception
        return Finding(f"{name} kernels", "bad", f"fail on {device()} ({type(error_).__name__}: {error_})", remedy)
    found = f"on {device()}, off by {error:.1%}"
    return Finding(f"{name} kernels", "ok", found) if error < 0.2 else Finding(f"{name} kernels", "bad", found, remedy)


def product() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (16, 256) and weights (256, 256)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 256, generator=generator), torch.randn(256, 256, generator=generator)


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative distance."""
    return float((found.cpu().float() - expected).norm() / expected.norm())


def int8_error(where: torch.device) -> float:
    """How far LLM.int8's product is off."""
    import bitsandbytes as bnb

    x, w = product()
    layer = bnb.nn.Linear8bitLt(256, 256, bias=False, has_fp16_weights=False)
    layer.weight = bnb.nn.Int8Params(w, requires_grad=False, has_fp16_weights=False)
    with torch.no_grad():
        return off(layer.eval().to(where)(x.half().to(where)), x @ w.T)


def nf4_error(where: torch.device) -> float:
    """How far nf4's product is off."""
    import bitsandbytes as bnb

    x, w = product()
    layer = bnb.nn.Linear4bit(256, 256, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    layer.weight = bnb.nn.Params4bit(w, requires_grad=False, quant_type="nf4", module=layer)
    with torch.no_grad():
        return off(layer.to(where)(x.to(where)), x @ w.T)


def half_precision() -> Finding:
    """Whether T5 and Gemma run in bf16 here."""
    if device().type == "cpu":
        return Finding("bf16", "note", "not used on a CPU: everything runs in fp32 there", "Nothing to do.")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding("bf16", "ok", "native")
    remedy = "T5 and Gemma need it (docs/models.md): use a model of another family."
    return Finding("bf16", "bad", "this GPU emulates it", remedy)


def host_memory() -> Finding:
    """Memory of the machine that programs can still get."""
    free = available_memory() / GIB
    found = f"{free:.1f} GiB available"
    if free < ENOUGH_RAM:
        return Finding("host RAM", "note", found, f"Below {ENOUGH_RAM:.0f} GiB close other programs before training.")
    return Finding("host RAM", "ok", found)


def disk() -> Finding:
    """Room where models are kept: what is made here, and what comes from the hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder, hub = cache_folder(), Path(HF_HUB_CACHE)
    free = {"RANKLOOP_CACHE": (folder, free_space(folder)), "HF_HOME": (hub, free_space(hub))}
    found = ", ".join(f"{size:.0f} GiB free for {where}" for where, size in free.values())
    kept = sum(file.stat().st_size for file in folder.glob("bases/*/*")) / GIB
    if kept:
        found += f"; quantised bases take {kept:.1f} GiB in {folder} and may be deleted"
    short = [name for name, (_, size) in free.items() if size < ENOUGH_DISK]
    if short:
        return Finding("disk", "bad", found, f"Make room, or point {' and '.join(short)} to another disk.")
    return Finding("disk", "ok", found)


def free_space(folder: Path) -> float:
    """GiB that are left where the folder is, or will be."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free / GIB


def versions() -> Finding:
    """Of Python and the libraries, held against what the package itself asks for."""
    try:
        said = importlib.metadata.metadata(PACKAGE)
        needed = [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or []]
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", "bad", f"{PACKAGE} itself is not installed", "scripts/install brings it.")
    found, amiss = [f"Python {platform.python_version()}"], []
    if not SpecifierSet(said["Requires-Python"] or "").contains(platform.python_version()):
        amiss.append(f"Python {said['Requires-Python']}")
    for one in needed:
        if one.marker and not one.marker.evaluate({"extra": EXTRA}):
            continue
        try:
            version = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if one.name in LIBRARIES and version:
            found.append(f"{one.name} {version}")
        if not version or not one.specifier.contains(version, prereleases=True):
            amiss.append(f"{one.name} {one.specifier} instead of {version or 'none'}")
    if amiss:
        return Finding("versions", "bad", ", ".join(found), f"Wanted: {'; '.join(amiss)}. scripts/install brings them.")
    return Finding("versions", "ok", ", ".join(found))


def embedded() -> Finding:
    """Whether the embedded model is converted."""
    if (cache_folder() / EMBEDDED / "config.json").is_file():
        return Finding("embedded model", "ok", f"{EMBEDDED} is in {cache_folder()}")
    remedy = "The first stage fetches it (93 MB): start one while the network is there."
    return Finding("embedded model", "note", "not fetched yet", remedy)


def hub_cache() -> Finding:
    """Models of the hub that are there without a network."""
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    models = sorted(path.name[8:].replace("--", "/") for path in Path(HF_HUB_CACHE).glob("models--*"))
    found = f"{', '.join(models) or 'no models'} in {HF_HUB_CACHE}{' (offline)' if HF_HUB_OFFLINE else ''}"
    if HF_HUB_OFFLINE and not models:
        return Finding("offline cache", "note", found, "Unset HF_HUB_OFFLINE to fetch one, or give --model a folder.")
    return Finding("offline cache", "ok", found)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The document of `trainer doctor --json`."""
    checks = [{"what": one.what, "state": one.state, "found": one.found, "remedy": one.remedy} for one in findings]
    return {"ok": all(one.state != "bad" for one in findings), "checks": checks}


def as_text(findings: list[Finding]) -> str:
    """A line each, and the remedy behind it."""
    marks = {"ok": "ok  ", "note": "note", "bad": "BAD "}
    return "\n".join(
        f"{marks[one.state]}  {one.what}: {one.found}{'. ' + one.remedy if one.remedy else ''}" for one in findings
    )
