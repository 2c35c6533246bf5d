"""Who draws answers: the model in this process, or an OpenAI-compatible server (vLLM, `transformers serve`, ...)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from preferences.records import Policy, Prompt, Response, content_id
from trainer.budget import Budget
from trainer.endpoint import Answer, Endpoint
from trainer.policies import load_policy, plain_policy
from trainer.roles import Roles
from trainer.rollout import Sampling, generate


@dataclass(slots=True)
class Slot:
    """A response still to be drawn. `tries`: how often its text was one that the prompt had already."""

    prompt: Prompt
    policy: Policy
    index: int
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A response, and what is known of the request that gave it (nothing of one that was drawn here)."""

    response: Response
    provenance: dict[str, Any] = field(default_factory=dict)


class Sampler(Protocol):
    """Draws answers of policies to prompts."""

    def plain(self) -> Policy:
        """What answers where no policy was chosen: the model without an adapter."""

    def draw(
        self, slots: Sequence[Slot], sampling: Sampling, seed: int, on_rows: Callable[[int], object]
    ) -> list[Drawn]:
        """One a slot, in order; `on_rows` hears how many have just ended."""


@dataclass(frozen=True, slots=True)
class LocalSampler:
    """The base in this process. `budget`: of prompt and answer tokens sampled at once."""

    roles: Roles
    budget: Budget

    def plain(self) -> Policy:
        """The base."""
        return plain_policy(self.roles.base)

    def draw(
        self, slots: Sequence[Slot], sampling: Sampling, seed: int, on_rows: Callable[[int], object]
    ) -> list[Drawn]:
        """Policy by policy; each answer from a stream of random numbers of its own."""
        base = self.roles.base
        drawn: dict[int, Drawn] = {}
        for policy in {slot.policy.id: slot.policy for slot in slots}.values():
            mine = [i for i, slot in enumerate(slots) if slot.policy.id == policy.id]
            role = load_policy(self.roles, policy)
            prompts = [base.prompt_ids(slots[i].prompt.messages) for i in mine]
            keys = [(seed, int(slots[i].prompt.id, 16), slots[i].index) for i in mine]
            samples = generate(self.roles, role, prompts, keys, sampling, self.budget, on_rows)
            for i, result in zip(mine, samples, strict=True):
                drawn[i] = Drawn(
                    Response.make(
                        slots[i].prompt.id, policy.id, base.text(result.ids), seed, slots[i].index,
                        temperature=sampling.temperature, top_p=sampling.top_p, max_new_tokens=sampling.max_new_tokens,
                        finish_reason="stop" if result.finished else "length", tokens=len(result.ids),
                        template_hash=base.template_hash,
                    )
                )  # fmt: skip
        return [drawn[i] for i in range(len(slots))]


@dataclass(frozen=True, slots=True)
class FarSampler:
    """A server. `model`: what it calls every policy; None: each by its own name, and a base by its model's."""

    endpoint: Endpoint
    model: str | None = None

    def plain(self) -> Policy:
        """The server's own model, which is asked for by that name."""
        name = self.model or self.endpoint.first_model()
        return Policy(content_id("policy", "endpoint", name), name, "base", name)

    def draw(
        self, slots: Sequence[Slot], sampling: Sampling, seed: int, on_rows: Callable[[int], object]
    ) -> list[Drawn]:
        """The answers of one policy to one prompt are one request, if the server gives several to one."""
        names = {slot.policy.id: self.model or self.endpoint.name_of(slot.policy) for slot in slots}
        groups: dict[tuple[str, str], list[int]] = {}
        for i, slot in enumerate(slots):
            groups.setdefault((slot.prompt.id, slot.policy.id), []).append(i)

        def ask(mine: list[int]) -> list[Answer]:
            first = slots[mine[0]]
            seeds = [request_seed(seed, slots[i].prompt.id, slots[i].index) for i in mine]
            return self.endpoint.chat(names[first.policy.id], first.prompt.messages, seeds, sampling)

        drawn: dict[int, Drawn] = {}
        asked = self.endpoint.each(ask, list(groups.values()), lambda answers: on_rows(len(answers)))
        for mine, answers in zip(groups.values(), asked, strict=True):
            for i, answer in zip(mine, answers, strict=True):
                response = Response.make(
                    slots[i].prompt.id, slots[i].policy.id, answer.text, seed, slots[i].index,
                    temperature=sampling.temperature, top_p=sampling.top_p, max_new_tokens=sampling.max_new_tokens,
                    finish_reason="stop" if answer.finished else "length", tokens=answer.tokens,
                )  # fmt: skip
                drawn[i] = Drawn(response, answer.provenance)
        return [drawn[i] for i in range(len(slots))]


def request_seed(seed: int, prompt: str, index: int) -> int:
    """31 bits that depend on these alone."""
    return int(content_id("seed", seed, prompt, index), 16) % 2**31
