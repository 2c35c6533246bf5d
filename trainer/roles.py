"""Every role (sft, policy, reference, reward, value) as a LoRA adapter on one frozen base, with a routed forward.

PEFT is the format on disk and makes the layers. Its own mixed batches fail with gradients on quantised bases and leave
hooks behind after an exception, so each LoRA layer's forward is replaced here by a routing over contiguous rows.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from preferences.errors import RankloopError
from preferences.run_files import CARD, WEIGHTS, holds_adapter
from trainer.adapters import WrongAdapter, check_shapes, check_template, checked_config, checked_weights, read_json
from trainer.batches import Batch, Example, collate, collate_pairs, common_prefix
from trainer.budget import where_it_fits
from trainer.exits import Layers, checked_layers, leaving, stack_of
from trainer.head import head_logits
from trainer.lora import folded_forward, fuses, routed_forward
from trainer.models import Base
from trainer.runs import whole_folder
from trainer.sharing import Prefix, can_share, decoder_states
from trainer.world import ALONE, World

HEAD = "head.safetensors"
BASE = "base"  # the role without an adapter
FOLDED = 2**30  # bytes of weights that `Roles.folded` copies at the most


class Roles:
    """Named adapters and scalar heads on one base. `world`: the processes that share the work."""

    def __init__(self, base: Base, world: World = ALONE) -> None:
        self.base, self.world = base, world
        self.peft: PeftModel | None = None
        self.heads: dict[str, nn.Linear] = {}
        self.exits: dict[str, Layers] = {}  # roles that read lower layers, and which
        self.route: tuple[str, ...] = (BASE,)
        self.shares = can_share(base)
        self.refills: bool | None = None  # whether rows may join a batch in the middle of decoding; None: not tried yet

    # -- making, copying, saving -------------------------------------------------------------------------------------

    def add(self, role: str, config: LoraConfig) -> None:
        """A new adapter that changes nothing yet (B = 0)."""
        if self.peft is None:
            self.peft = get_peft_model(self.base.model, config, adapter_name=role)
        else:
            self.peft.add_adapter(role, config)
        self._patch()

    def copy(self, source: str, target: str) -> None:
        """A new role with the weights (and head, if any) of another one, which reads the same layers."""
        assert self.peft is not None, f"There is no role {source!r} to copy."
        self.add(target, self.peft.peft_config[source])
        self._load_state(target, get_peft_model_state_dict(self.peft, adapter_name=source))
        self.read(target, self.exits.get(source))
        if source in self.heads:
            self.add_head(target)
            self.heads[target].load_state_dict(self.heads[source].state_dict())

    def average(self, sources: Sequence[str], target: str) -> None:
        """A new role whose change of each layer is the mean of the sources' (arXiv 2401.12187); its rank is their sum.

        It reads the layers that they all read.
        """
        assert self.peft is not None, "There are no roles to average."
        share = [1 / len(sources)] * len(sources)
        self.peft.base_model.add_weighted_adapter(list(sources), share, target, combination_type="cat")
        self._patch()
        self.read(target, self.exits.get(sources[0]))

    def add_head(self, role: str) -> nn.Linear:
        """A scalar fp32 head on the role's states, all zero."""
        head = nn.Linear(self.hidden_size, 1, device=self.base.device, dtype=torch.float32)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.heads[role] = head
        return head

    def load(self, role: str, folder: Path) -> dict[str, Any]:
        """Load an adapter (and its head) as a role; its card. Raises WrongAdapter."""
        card = read_card(folder, self.base)
        config, state = checked_config(folder), checked_weights(folder / WEIGHTS)
        try:
            self.add(role, config)
        except (ValueError, TypeError) as error:  # no module of those names
            raise WrongAdapter(f"The adapter {folder} does not fit this model ({error}).") from error
        check_shapes(folder / WEIGHTS, state, get_peft_model_state_dict(self.peft, adapter_name=role))
        self._load_state(role, state)
        if (folder / HEAD).is_file():
            head = checked_weights(folder / HEAD)
            made = self.add_head(role)
            check_shapes(folder / HEAD, head, dict(made.state_dict()))
            made.load_state_dict(head)
        return card

    def save(self, role: str, folder: Path, card: dict[str, Any]) -> None:
        """Write an adapter that plain PEFT loads, its head beside it, and the card that says what it belongs to."""
        assert self.peft is not None, f"There is no role {role!r} to save."
        state = get_peft_model_state_dict(self.peft, adapter_name=role)
        config = self.peft.peft_config[role]
        config.base_model_name_or_path = str(self.base.model.name_or_path)
        with whole_folder(folder) as place:
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, place / WEIGHTS)
            inference_mode, config.inference_mode = config.inference_mode, True
            config.save_pretrained(place)
            config.inference_mode = inference_mode
            if role in self.heads:
                save_file(dict(self.heads[role].state_dict()), place / HEAD)
            write_card(place, self.base, card)

    @property
    def together(self) -> bool:
        """Whether the answers to a prompt belong in one micro-batch: they share its row, or its pass through the encoder."""
        return self.shares or self.base.is_encoder_decoder

    @property
    def names(self) -> set[str]:
        """Roles that have an adapter."""
        return set(self.peft.peft_config) if self.peft else set()

    def parameters(self, role: str) -> list[nn.Parameter]:
        """The adapter's own parameters, then its head's."""
        found = [
            parameter
            for layer in self._layers()
            for block in (layer.lora_A, layer.lora_B)
            if role in block
            for parameter in block[role].parameters()
        ]
        return found + (list(self.heads[role].parameters()) if role in self.heads else [])

    def train_only(self, *roles: str, top_layers: int | None = None) -> None:
        """Gradients for these roles and for nothing else; with `top_layers`, only in so many layers below the head."""
        assert self.peft is not None, "There is no adapter to train."
        heads = [parameter for head in self.heads.values() for parameter in head.parameters()]
        for parameter in (*self.peft.parameters(), *heads):
            parameter.requires_grad_(False)
        for role in roles:
            for parameter in self.parameters(role):
                parameter.requires_grad_(True)
        if top_layers is not None:
            encoder = [self.base.model.encoder] if self.base.is_encoder_decoder else []
            for below in (*encoder, *self.stack()[:-top_layers]):
                below.requires_grad_(False)

    def read(self, role: str, layers: Any) -> None:
        """Have a role's states be those of some layers, behind the last norm, as `exits.checked_layers` takes them.

        Raises RankloopError if there are no such layers.
        """
        self.exits.pop(role, None)
        if found := checked_layers(layers, self.base):
            self.exits[role] = found

    # -- running -----------------------------------------------------------------------------------------------------

    @contextmanager
    def routed(self, *roles: str) -> Iterator[None]:
        """Within, the base runs these adapters, each on its block: the rows divided evenly among them, in this order.

        A backward pass with gradient checkpointing runs the forward again, so it belongs inside too.
        """
        unknown = set(roles) - self.names - {BASE}
        assert not unknown, f"There is no role {sorted(unknown)[0]!r}; without this its rows would run the plain base."
        assert not set(self.route) & set(self.exits), "Roles that read a lower layer have no other pass within theirs."
        before, self.route = self.route, roles
        try:
            with ExitStack() as within:
                if any(role in self.exits for role in roles):  # a base in parts is put together layer by layer, by all
                    layers = [self.exits.get(role, ()) for role in roles]
                    within.enter_context(leaving(self.base, layers, whole=self.world.sharded))
                yield
        finally:
            self.route = before

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Within, the one role that is routed has its adapter in copies of the weights: many passes of few rows, as in
        decoding, spend much of their time on what an adapter adds.

        For a base in 32 bits on a CPU, of at most `FOLDED` bytes; else nothing changes, as rounding or room would. For
        passes without gradients.
        """
        (role,) = self.route
        layers = [layer for layer in self._layers() if role in layer.lora_A and fuses(layer, [role], layer.weight)]
        exact = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in self.base.model.parameters())
        small = sum(layer.base_layer.weight.nbytes for layer in layers) <= FOLDED
        if not (exact and small) or self.world.sharded:
            layers = []
        try:
            for layer in layers:
                layer.forward = folded_forward(layer, role)
            yield
        finally:
            self._patch()

    @contextmanager
    def checkpointed(self, active: bool = True) -> Iterator[None]:
        """Within, layers keep their inputs alone and run again in the backward pass (arXiv 1604.06174); dropout stays off.

        Raises RankloopError for a model that cannot.
        """
        if not active:
            yield
            return
        layers = [module for module in self.base.model.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not layers:
            raise RankloopError(f"{self.base.id} has no gradient checkpointing; leave --checkpointing out.")
        self.base.model.gradient_checkpointing_enable({"use_reentrant": False})
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def collate(self, examples: Sequence[Example]) -> Batch:
        """A batch on the base's device, of the base's family; successive examples of one prompt share its computation."""
        base = self.base
        if base.is_encoder_decoder:
            return collate_pairs(examples, base.pad_id, base.device, base.model.config.decoder_start_token_id)
        return collate(examples, base.pad_id, base.device, self.shares)

    def read_prefix(self, ids: list[int]) -> Prefix:
        """The first tokens of all prompts under each of the surrounding `routed(...)` roles, for passes without gradients."""
        rows = torch.tensor([ids] * len(self.route), device=self.base.device)
        cache = DynamicCache(config=self.base.model.config)
        self.base.model.base_model(input_ids=rows, past_key_values=cache, use_cache=True)
        return Prefix(cache, len(ids))

    def read_common(self, prompts: Sequence[list[int]]) -> Prefix | None:
        """`read_prefix` of what all the prompts begin with; None if that does not pay, or if there is no memory for it."""
        length = common_prefix(prompts)
        return where_it_fits(lambda: self.read_prefix(prompts[0][:length]), self.world) if length else None

    def response_states(self, batch: Batch, prefix: Prefix | None = None) -> Tensor:
        """(n, R + 1, hidden): the state that predicts each response token, and the one after the last token.

        Runs the adapters of the surrounding `routed(...)`. `prefix`: what the prompts of the batch lack at their beginning.
        """
        if batch.decoder_ids is None:
            states = decoder_states(self.base.model.base_model, batch, prefix)
            return states[batch.rows[:, None], batch.positions]
        model, mask = self.base.model, batch.attention_mask
        encoded = model.encoder(input_ids=batch.input_ids, attention_mask=mask)[0]
        states = model.decoder(
            input_ids=batch.decoder_ids, encoder_hidden_states=encoded[batch.rows],
            encoder_attention_mask=mask[batch.rows], use_cache=False,
        )[0]  # fmt: skip
        index = batch.positions[:, :, None].expand(-1, -1, states.shape[-1])
        gathered: Tensor = states.gather(1, index)
        return gathered

    def logits(self, states: Tensor) -> Tensor:
        """(..., vocabulary) in fp32, from states."""
        return head_logits(self.base.model, states)

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        return int(self.base.model.get_output_embeddings().in_features)

    def stack(self) -> nn.ModuleList:
        """The decoder's layers, from the embeddings to the head."""
        return stack_of(self.base)

    def _layers(self) -> Iterator[Any]:
        return (module for module in self.base.model.modules() if isinstance(module, LoraLayer))

    def _patch(self) -> None:
        for layer in self._layers():
            layer.forward = lambda x, *args, _layer=layer, **kwargs: routed_forward(
                _layer, self.route, x, *args, **kwargs
            )

    def _load_state(self, role: str, state: dict[str, Tensor]) -> None:
        result = set_peft_model_state_dict(self.peft, state, adapter_name=role)
        if result.unexpected_keys:
            raise WrongAdapter(f"The adapter does not fit this model (it has {result.unexpected_keys[0]}).")


def lora_config(base: Base, rank: int, alpha: int) -> LoraConfig:
    """LoRA on every linear layer but the language-model head, without dropout (a ratio of 1 needs it)."""
    task = "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM"
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type=task)


def write_card(folder: Path, base: Base, card: dict[str, Any]) -> None:
    """Which base, quantisation and tokenizer the adapter belongs to, and what its stage wants to remember."""
    (folder / CARD).write_text(json.dumps({**base.identity, **card}, indent=1) + "\n")


def read_card(folder: Path, base: Base) -> dict[str, Any]:
    """The card of an adapter that fits the base. Raises WrongAdapter."""
    pickles = [path.name for path in folder.glob("*.bin")] + [path.name for path in folder.glob("*.pt")]
    if pickles and not (folder / WEIGHTS).is_file():
        raise WrongAdapter(
            f"{folder} holds {pickles[0]}, a pickle, which could run any program when it is read; only safetensors are "
            "loaded."
        )
    if not holds_adapter(folder):
        raise WrongAdapter(f"{folder} holds no rankloop adapter; give the 'adapter' folder of a run.")
    card = read_json(folder / CARD)
    check_template(folder, card, base)
    same = same_weights(card, base)
    for what, value in base.identity.items():
        then = card.get(what)
        if then == value or (what == "base" and same):  # the same base has other paths on other hosts
            continue
        if what in ("weights", "quantization_config") and not (then and value):  # older adapters do not say
            continue
        of_what = f"the weights of {base.id}" if what == "weights" else what
        raise WrongAdapter(
            f"The adapter {folder} was trained with {of_what} {then!r}, and this is {value!r}; load it on what it was "
            "trained on."
        )
    return card


def same_weights(card: dict[str, Any], base: Base) -> bool | None:
    """Whether an adapter was trained on these very weights, under whatever name; None if either side does not know."""
    then, now = card.get("weights"), base.weights
    return then == now if then and now else None
