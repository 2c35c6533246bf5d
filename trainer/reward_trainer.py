"""One reward model's training: a linear probe on the untouched base, then adapter and head together."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainer.batches import Example, micro_batches, widths
from trainer.checkpoints import State
from trainer.elements import Element, distinct, elements, flat_rows
from trainer.objective import Objective
from trainer.optimizers import optimizer_of
from trainer.probe import fit_head
from trainer.ranked import Ranked
from trainer.roles import Roles, lora_config
from trainer.runs import Run
from trainer.scoring import pooled_states, raw_scores
from trainer.sharding import company

if TYPE_CHECKING:
    from trainer.reward import Reward

TIE_LR = 1e-2  # few parameters that begin near their place


class RewardTrainer:
    """One role, its data and its optimizer. `validation`: comparisons whose loss decides which state is kept, if any.

    The processes of the roles' world share the elements of an update and the answers of a pass; each holds the sums.
    """

    def __init__(
        self, config: "Reward", roles: Roles, ranked: Sequence[Ranked], run: Run, role: str = "reward",
        seed: int | None = None, validation: Sequence[Ranked] = (),
    ) -> None:  # fmt: skip
        self.config, self.roles, self.run, self.role, self.world = config, roles, run, role, roles.world
        self.ranked, self.validation = ranked, validation
        self.seed = config.seed if seed is None else seed
        torch.manual_seed(self.seed)
        roles.add(role, lora_config(roles.base, config.rank, 2 * config.rank))
        roles.read(role, config.layer)
        self.head = roles.add_head(role)
        self.objective = Objective(config.asked(), [*ranked, *validation], roles.base.device)
        self.elements = elements(ranked, config.passes // 2)
        self.best: tuple[float, list[Tensor]] | None = None
        self.done = -1  # updates so far; not even the warm start
        self.updates = list(self.batches())
        self.optimizer, self.schedule = self.optimizing()

    def train(self, save: Callable[[], None] = lambda: None) -> str:
        """Warm start, then the epochs; "finished", or "interrupted" by Ctrl-C. `save` is called where it could go on."""
        try:
            if self.done < 0:
                self.warm_start()  # 1. the head as a linear probe on the untouched base
                self.world.align(self.trained)
                self.done = 0
                save()
            self.fit(save)  # 2. adapter and head together
        except KeyboardInterrupt:
            return "interrupted"
        finally:
            self.restore_best()
        return "finished"

    def warm_start(self) -> None:
        """Fit the head alone: small data is better used by a convex problem first."""
        examples, rows = distinct(self.ranked)
        states = self.states(examples, "warm start")
        loss = fit_head(self.head, states, pair_tensors(self.ranked, rows, states.device), self.config.l2)
        self.run.log({"step": 0, "role": self.role, "loss/probe": loss, **self.look()})

    def optimizing(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        """The optimizer of adapter, head and what ties need, and the schedule of its rates."""
        config, head = self.config, list(self.head.parameters())
        adapter = [p for p in self.roles.parameters(self.role) if all(p is not h for h in head)]
        groups = [(adapter, config.lr), (head, config.head_lr), (self.objective.parameters, TIE_LR)]
        optimizer = optimizer_of(config.optimizer, [{"params": p, "lr": lr} for p, lr in groups if p])
        last = max(1, len(self.updates))
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, (i + 1) / 3) * (1 - i / last))

    def fit(self, save: Callable[[], None] = lambda: None) -> None:
        """Epochs of updates, each on whole elements."""
        config, updates, optimizer = self.config, self.updates, self.optimizer
        self.roles.train_only(self.role)
        looks = (
            {round(len(updates) * i / config.looks) for i in range(1, config.looks + 1)} if self.validation else set()
        )
        begun = max(0, self.done)
        left = tqdm(updates[begun:], desc=self.role, unit="update", initial=begun, total=len(updates))
        for step, batch in enumerate(left, start=begun + 1):
            optimizer.zero_grad(set_to_none=True)
            metrics = self.gradients(batch)
            self.world.add_gradients(self.trained)
            norm = nn.utils.clip_grad_norm_(self.roles.parameters(self.role), config.max_grad_norm)
            if torch.isfinite(norm):
                optimizer.step()
            seen = self.look() if step in looks else {}
            rate = optimizer.param_groups[0]["lr"]
            facts = {"step": step, "steps": len(updates), "role": self.role}
            self.run.log({**facts, **metrics, "grad_norm": float(norm), "lr": rate, **seen})
            self.schedule.step()
            self.done = step
            if step % config.save_every == 0:
                save()

    def state_dict(self) -> State:
        """Everything that training goes on from."""
        return {
            "done": self.done, "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
            "trained": [p.detach().cpu() for p in self.trained], "best": self.best and list(self.best),
        }  # fmt: skip

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Go back to where it was."""
        self.done = state["done"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for parameter, kept in zip(self.trained, state["trained"], strict=True):
            parameter.copy_(kept)
        if state["best"]:
            loss, kept = state["best"]
            self.best = loss, [tensor.to(self.roles.base.device) for tensor in kept]

    @property
    def trained(self) -> list[nn.Parameter]:
        """All that is learned: adapter, head, and what ties need."""
        return [*self.roles.parameters(self.role), *self.objective.parameters]

    def gradients(self, batch: Sequence[Element]) -> dict[str, float]:
        """Add up the gradients of this process's share of some elements; each distinct answer of one runs once. What is said
        of them is of all."""
        total, hits, pairs = 0.0, 0.0, 0
        count = sum(len(element.comparisons) for element in batch)
        own = self.world.own(batch)
        with self.roles.checkpointed(self.config.checkpointing), company(self.roles, gradients=True):
            for group in micro_batches([self.tokens(e.examples) for e in own], self.config.passes // 2):
                part = [own[i] for i in group]
                ranked, rows = [r for e in part for r in e.comparisons], flat_rows(part)
                batched = self.roles.collate([example for e in part for example in e.examples])
                with self.roles.routed(self.role):
                    states = self.roles.response_states(batched)
                    scores = raw_scores(self.roles, self.role, states, batched.lengths, self.config.pooling)
                    loss = self.objective.loss(scores, ranked, rows) / count
                    loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item()
                better, worse, _, _ = pair_tensors(ranked, rows, scores.device)
                hits += float((scores[better] > scores[worse]).sum())
                pairs += len(better)
        total, hits, pairs = (sum(parts) for parts in zip(*self.world.each((total, hits, pairs)), strict=True))
        return {"loss": total, "accuracy": hits / max(1, pairs), "comparisons": count}

    def tokens(self, examples: Sequence[Example]) -> int:
        """How many tokens an element is, padding included: its answers share their prompt where the model can."""
        rows = widths(examples, self.roles.together)
        return max(rows) * len(rows)

    def batches(self) -> Iterator[list[Element]]:
        """Whole elements in a new order at each pass, as many as have `batch` comparisons; `epochs` passes in all."""
        order = random.Random(self.seed)
        left = round(self.config.epochs * len(self.ranked))
        batch: list[Element] = []
        waiting: list[Element] = []
        while left > 0:
            waiting = waiting or order.sample(self.elements, len(self.elements))
            batch.append(waiting.pop(0))
            left -= len(batch[-1].comparisons)
            if left <= 0 or sum(len(e.comparisons) for e in batch) >= self.config.batch:
                yield batch
                batch = []

    @property
    def tie_parameters(self) -> list[float]:
        """What was learned about ties, as the objective holds it; [] if nothing."""
        return [x for parameter in self.objective.parameters for x in parameter.detach().tolist()]

    @torch.no_grad()
    def look(self) -> dict[str, float]:
        """Loss and accuracy on the validation comparisons; the state with the least loss is remembered."""
        if not self.validation:
            return {}
        examples, rows = distinct(self.validation)
        scores = self.head(self.states(examples, "validation")).squeeze(-1)
        loss = float(self.objective.preferences(scores, self.validation, rows)) / len(self.validation)
        better, worse, _, _ = pair_tensors(self.validation, rows, scores.device)
        if self.best is None or loss < self.best[0]:
            self.best = loss, [p.detach().clone() for p in self.roles.parameters(self.role)]
        hits = float((scores[better] > scores[worse]).float().mean()) if len(better) else 0.5
        return {"validation/loss": loss, "validation/accuracy": hits}

    @torch.no_grad()
    def restore_best(self) -> None:
        """Go back to the state with the least validation loss, if any was looked at."""
        if self.best is not None:
            for parameter, kept in zip(self.roles.parameters(self.role), self.best[1], strict=True):
                parameter.copy_(kept)

    @torch.no_grad()
    def states(self, examples: Sequence[Example], what: str) -> Tensor:
        """(answers, hidden) fp32: the pooled states of some answers."""
        config = self.config
        with tqdm(total=len(examples), desc=what, unit="answer") as bar:
            return pooled_states(self.roles, self.role, examples, config.pooling, config.passes, bar.update)

    @torch.no_grad()
    def scores(self, ranked: Sequence[Ranked]) -> list[float]:
        """Raw scores of these comparisons' answers, one comparison after another."""
        examples, rows = distinct(ranked)
        found = self.head(self.states(examples, "normalise")).squeeze(-1).tolist()
        return [found[i] for row in rows for i in row]


def pair_tensors(
    ranked: Sequence[Ranked], rows: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(pairs,) better and worse row, share, weight of comparisons whose answers stand in those rows."""
    table = [
        (row[better], row[worse], share, r.weight)
        for r, row in zip(ranked, rows, strict=True)
        for better, worse, share in r.pairs
    ]
    better, worse, share, weight = zip(*table, strict=True) if table else ((), (), (), ())
    return (
        torch.tensor(better, dtype=torch.long, device=device), torch.tensor(worse, dtype=torch.long, device=device),
        torch.tensor(share, dtype=torch.float32, device=device), torch.tensor(weight, dtype=torch.float32, device=device),
    )  # fmt: skip
