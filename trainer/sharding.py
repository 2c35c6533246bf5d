"""A base in parts, one with each process (FSDP2): a layer is put together for its pass, and taken apart again.

Adapters and heads stay whole everywhere; a few megabytes need no parts. A pass takes all processes at once, so one that has
no rows left goes along with idle passes until all are done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bitsandbytes as bnb
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from preferences.errors import RankloopError
from trainer.batches import Example
from trainer.models import Base

if TYPE_CHECKING:
    from trainer.roles import Roles

IDLE = [Example([0], [0])]


def shard(base: Base, device: torch.device) -> Base:
    """The base on that device, with the layers' weights in parts; before it has adapters. Raises RankloopError.

    A base that was loaded on the CPU is moved layer by layer, so no card ever holds all of it.
    """
    if base.is_encoder_decoder or base.quantization == "int8":
        what = "an encoder-decoder" if base.is_encoder_decoder else "int8"
        raise RankloopError(
            f"A base in parts (FSDP2) is a decoder without quantisation or in nf4, not {what}; take --quantize nf4, or a "
            "launch without FSDP."
        )
    backbone = base.model.base_model
    stack = max(
        (module for module in backbone.modules() if isinstance(module, nn.ModuleList)),
        key=lambda found: sum(parameter.numel() for parameter in found.parameters()),
    )
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    known = {module: said_of(module) for module in base.model.modules() if isinstance(module, bnb.nn.Linear4bit)}
    for layer in stack:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    for module, said in known.items():  # PEFT asks the weights for it
        for name, value in said.items():
            setattr(module.weight, name, value)
    inside = set(stack.parameters())
    outside = {parameter for parameter in base.model.parameters() if parameter not in inside}
    fully_shard(backbone, mesh=mesh, reshard_after_forward=True, ignored_params=outside)
    for parameter in outside:
        parameter.data = parameter.data.to(device)
    for module in base.model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return replace(base, device=device)


def said_of(layer: Any) -> dict[str, Any]:
    """What the weight of a 4-bit layer says of itself; the layer keeps the scales, which are the same everywhere."""
    weight = layer.weight
    layer.quant_state = weight.quant_state
    return {name: getattr(weight, name) for name in ("blocksize", "compress_statistics", "quant_type", "quant_storage")}


@contextmanager
def company(roles: "Roles", gradients: bool) -> Iterator[None]:
    """Within, processes do passes of different number, each with or each without `gradients`; all leave together.

    Nothing happens where every process has the whole base.
    """
    world = roles.world
    if not world.sharded:
        yield
        return
    hook = roles.base.model.base_model.register_forward_pre_hook(lambda *_: any(world.each(True)) and None)
    try:
        yield
    finally:
        hook.remove()
    while any(world.each(False)):
        idle_pass(roles, gradients)


def idle_pass(roles: "Roles", gradients: bool) -> None:
    """A pass through all layers, of which nothing is kept."""
    trained = {role: [p for p in roles.parameters(role) if p.requires_grad] for role in sorted(roles.names)}
    role = next((role for role, parameters in trained.items() if parameters), "base") if gradients else "base"
    with roles.routed(role), torch.set_grad_enabled(gradients):
        states = roles.response_states(roles.collate(IDLE))
        if gradients:
            torch.autograd.grad(states.sum(), trained[role], allow_unused=True)
