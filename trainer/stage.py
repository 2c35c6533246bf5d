"""What every training command has in common: its options, opening the store, and the lock of the device."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from preferences.errors import NameTaken
from preferences.records import Policy, PolicyKind, Study, content_id
from preferences.store import Store
from trainer.embedded import EMBEDDED, cache_folder
from trainer.head import check_head
from trainer.models import Base, Quantization, default_device, load_base
from trainer.perplexity import said_of
from trainer.sharding import shard
from trainer.world import ALONE, World

STOP_JOB = signal.SIGUSR1  # a worker sends it to itself: the job is no longer its own, and it goes on with others


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Options of every command that works with the base model."""

    db: Path = Path("rankloop.db")
    """The database."""
    model: str = EMBEDDED
    """Base model: the embedded one, a hub id, or a local folder."""
    quantize: Literal["none", "int8", "nf4"] | None = None
    """Quantisation of the frozen base; default none on the CPU, int8 on CUDA."""
    study: str | None = None
    """Name of the study; default the oldest active one."""
    seed: int = 0
    """Seed of everything random."""
    json: bool = False
    """Print one JSON document alone on stdout."""

    def needs_store(self) -> bool:
        """Whether the command reads the database."""
        return True

    def needs_base(self) -> bool:
        """Whether the model is run in this process."""
        return True


def open_study(store: Store, name: str | None) -> Study:
    """The named study, or the default one."""
    return store.studies.get(name) if name else store.studies.default()


def open_base(stage: Stage, world: World = ALONE) -> Base:
    """The base model of a command's options on the device of this process, with the random generators seeded."""
    torch.manual_seed(stage.seed)
    quantization: Quantization | None = stage.quantize
    place = world.device
    if world.sharded and world.device:  # from the machine's memory, layer by layer: no card holds all of it
        quantization = quantization or ("nf4" if world.device.type == "cuda" else "none")
        place = torch.device("cpu")
    with world.first_first():
        base = load_base(stage.model, quantization, place, sharded=world.sharded, computing=world.device)
    if world.sharded and world.device:
        base = shard(base, world.device)
        check_head(base)
    if base.quantization != "none":
        print(said_of(base), file=sys.stderr)
    return base


def default_device_name() -> str:
    """ "cuda" or "cpu"."""
    return default_device().type


@contextmanager
def device_lock(device: str) -> Iterator[None]:
    """One user of the device at a time: a training command and the worker wait for each other."""
    lock = FileLock(cache_folder() / f"{device}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Waiting for another rankloop process that uses the {device} ...", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stop_on_sigterm() -> Iterator[Event]:
    """SIGTERM ends the work like Ctrl-C does: after the rows that are stored, with nothing half written.

    The event says that it came, also where somebody has swallowed the interruption. STOP_JOB interrupts too, and no more.
    """
    told = Event()

    def interrupt(number: int, _: object) -> None:
        if number == signal.SIGTERM:
            told.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, STOP_JOB)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_name(store: Store, name: str) -> None:
    """Raises NameTaken if a policy has that name: before the training rather than after it."""
    if store.policies.find(name):
        raise NameTaken(f"There is a policy named {name!r} already; choose another --name.")


def register(
    store: Store, study: Study, name: str, kind: PolicyKind, base: Base, adapter: Path, next_: bool, **fields: Any
) -> Policy:
    """The policy row of a trained adapter; from now on it answers the study's prompts if `next_`."""
    ident = content_id("policy", kind, base.called, str(adapter.resolve()), fields.get("data_hash", ""), name)
    with store.write():
        policy = store.policies.add(
            Policy(ident, name, kind, base.id, base.quantization, str(adapter.resolve()), **fields)
        )
        if next_:
            store.studies.set_sampling_policies(study, [policy])
    return policy
