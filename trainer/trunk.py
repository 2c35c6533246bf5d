"""Where only the top layers are trained, what enters them stays the same through all epochs: it is computed once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainer.batches import Batch, Example, rows_of, widths
from trainer.exits import find_stack
from trainer.roles import Roles
from trainer.sharing import decoder_states

PROBE = [Example([5, 6, 7], [8, 9]), Example([10, 11], [12, 13, 14])]


class Entered(Exception):
    """The states that enter the first trained layer."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class Trunk:
    """States (tokens, hidden) at the entrance of the top layers, by role and by the examples that share a row.

    Only for models whose top layers run on given states as if these were embeddings; `works` says whether this one's do,
    found by a trial. No role may read a lower layer than these, and no adapter below may change while anything is kept.
    """

    def __init__(self, roles: Roles, top_layers: int) -> None:
        self.roles, self.kept = roles, dict[tuple[str, tuple[int, ...]], Tensor]()
        self.parent, self.name = find_stack(roles.base.model.base_model, roles.stack())
        self.bottom = len(roles.stack()) - top_layers
        self.works = self.bottom > 0 and not roles.base.is_encoder_decoder and self.trial()

    def forget(self) -> None:
        """A new rollout."""
        self.kept.clear()

    def response_states(
        self, batch: Batch, blocks: Sequence[str], examples: Sequence[Example], numbers: Sequence[int]
    ) -> Tensor:
        """`Roles.response_states` of a batch of `blocks`, each of the same examples, which the rollout knows by `numbers`.

        Runs within `routed(*blocks)`.
        """
        share = self.roles.shares
        rows = [tuple(numbers[i] for i in row) for row in rows_of(examples, share)]
        keys = [(role, row) for role in blocks for row in rows]
        if any(key not in self.kept for key in keys):
            lengths = widths(examples, share) * len(blocks)
            for key, states, length in zip(keys, self.enter(batch), lengths, strict=True):
                self.kept[key] = states[:length].clone()
        hidden = nn.utils.rnn.pad_sequence([self.kept[key] for key in keys], batch_first=True)
        return self.above(hidden, batch)

    @torch.no_grad()
    def enter(self, batch: Batch) -> Tensor:
        """(rows, W, hidden) at the entrance of the top layers."""

        def stop(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
            raise Entered(args[0] if args else given["hidden_states"])

        hook = self.roles.stack()[self.bottom].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            decoder_states(self.roles.base.model.base_model, batch)
        except Entered as entered:
            return entered.states
        finally:
            hook.remove()
        raise AssertionError("The top layers were not entered.")

    def above(self, hidden: Tensor, batch: Batch) -> Tensor:
        """(n, R + 1, hidden) out of the top layers alone."""
        with self.only_top():
            states = decoder_states(self.roles.base.model.base_model, batch, embeddings=hidden)
        return states[batch.rows[:, None], batch.positions]

    @contextmanager
    def only_top(self) -> Iterator[None]:
        """Within, the model consists of its top layers."""
        whole = getattr(self.parent, self.name)
        setattr(self.parent, self.name, whole[self.bottom :])
        try:
            yield
        finally:
            setattr(self.parent, self.name, whole)

    @torch.no_grad()
    def trial(self) -> bool:
        """Whether the way through kept states ends where the whole way does."""
        batch = self.roles.collate(PROBE)
        try:
            expected = self.roles.response_states(batch)
            found = self.above(self.enter(batch), batch)
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError):
            return False
        return bool(torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())))
