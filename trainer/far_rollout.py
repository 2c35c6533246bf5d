"""PPO's rollouts from a server that loads the policy's adapter anew before each of them (vLLM with --enable-lora)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from preferences.errors import RankloopError
from preferences.records import Prompt, content_id
from trainer.batches import Example, pad
from trainer.endpoint import Answer, Endpoint
from trainer.experience import Answers
from trainer.models import Base
from trainer.ppo_math import kl_k3, masked_mean, truncated_weights
from trainer.roles import Roles
from trainer.rollout import Sampling
from trainer.runs import Run
from trainer.world import World

if TYPE_CHECKING:
    from trainer.ppo import Ppo

APART = 0.05  # nats a token: bf16 against fp32 is a hundredth of that, another model or temperature far more


class EngineOff(RankloopError):
    """The server draws from another distribution than the policy that is trained."""


@dataclass(frozen=True, slots=True)
class FarRollouts:
    """`folder`: where the adapter is put for the server, which must see it at the same path; `name`: its first name there."""

    endpoint: Endpoint
    roles: Roles
    folder: Path
    name: str
    sampling: Sampling
    seed: int

    @staticmethod
    def of(config: "Ppo", roles: Roles, run: Run) -> "FarRollouts":
        """As the options say."""
        assert config.endpoint is not None, "Without a server rollouts are drawn here."
        endpoint = Endpoint(config.endpoint, config.concurrency)
        sampling = Sampling(config.temperature, 1.0, config.max_new_tokens)
        return FarRollouts(endpoint, roles, run.folder / "served", run.folder.name, sampling, config.seed)

    def sample(self, prompts: Sequence[Prompt], step: int, world: World) -> tuple[Answers, Tensor | None]:
        """An answer a prompt from the policy as it is now, and the server's log-probabilities (B, R), or None if it does not
        say them of the tokens that were drawn. `old` and `values` of the answers are to be computed.

        The main process alone asks, and tells the others.
        """

        def asked() -> list[Answer]:
            model = self.publish(step)
            found = self.draw(model, prompts, (self.seed, 1, step))
            self.retire(step)
            return found

        return assembled(self.roles.base, prompts, world.told(asked))

    def publish(self, step: int) -> str:
        """Let the server load the policy as it is now; what it is called there: another name each time."""
        name, place = f"{self.name}-{step}", self.folder / f"{step:06d}"
        self.roles.save("policy", place, {"kind": "ppo", "iterations": step})
        self.endpoint.load(name, str(place.resolve()))
        return name

    def retire(self, step: int) -> None:
        """The server and the disk need that adapter no more."""
        self.endpoint.unload(f"{self.name}-{step}")
        for path in (self.folder / f"{step:06d}").glob("*"):
            path.unlink()

    def draw(self, model: str, prompts: Sequence[Prompt], key: tuple[int, ...]) -> list[Answer]:
        """An answer a prompt, in order; those to equal prompts by one request."""
        groups: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            groups.setdefault(prompt.id, []).append(i)

        def ask(mine: list[int]) -> list[Answer]:
            seeds = [int(content_id("rollout", *key, i), 16) % 2**31 for i in mine]
            ids = self.roles.base.prompt_ids(prompts[mine[0]].messages)
            return self.endpoint.complete(model, ids, seeds, self.sampling)

        drawn: dict[int, Answer] = {}
        for mine, found in zip(groups.values(), self.endpoint.each(ask, list(groups.values())), strict=True):
            drawn.update(zip(mine, found, strict=True))
        return [drawn[i] for i in range(len(prompts))]


def assembled(base: Base, prompts: Sequence[Prompt], drawn: Sequence[Answer]) -> tuple[Answers, Tensor | None]:
    """What was drawn as tokens, and the server's log-probabilities (B, R) if it says those of all tokens."""
    responses = [response_ids(base, answer) for answer in drawn]
    engine, mask = pad([[0.0] * len(response) for response in responses], 0.0, base.device)
    said = [len(answer.logprobs or []) for answer in drawn] == [len(response) for response in responses]
    if said:
        engine, _ = pad([answer.logprobs or [] for answer in drawn], 0.0, base.device)
    answers = Answers(
        prompts=[prompt.messages for prompt in prompts],
        examples=[
            Example(base.prompt_ids(prompt.messages), response) for prompt, response in zip(prompts, responses, strict=True)
        ],
        texts=[base.text(response) for response in responses],
        finished=[answer.finished for answer in drawn],
        mask=mask, old=torch.zeros_like(engine), values=torch.zeros_like(engine),
    )  # fmt: skip
    return answers, engine if said else None


def response_ids(base: Base, answer: Answer) -> list[int]:
    """The tokens that were drawn, with the end token; of a server that does not say them those that spell the text."""
    if answer.ids:
        return answer.ids
    return base.response_ids(answer.text, answer.finished) or [base.stop_ids[0]]


def weighed(answers: Answers, engine: Tensor | None, most: float) -> Answers:
    """The answers, whose `old` is the policy's own, with the weights of their tokens, if the server's log-probabilities are
    known. Raises EngineOff if these are so far from the policy's that weights cannot mend it."""
    if engine is None:
        return answers
    apart = float(masked_mean(kl_k3(engine, answers.old), answers.mask))
    if not apart <= APART:
        raise EngineOff(
            f"The server's log-probabilities are {apart:.2g} nats a token from the policy's (at most {APART} is mended by "
            "weights); serve the same base, and start vLLM with --logprobs-mode processed_logprobs."
        )
    return replace(answers, weights=truncated_weights(answers.old, engine, answers.mask, most))


def engine_report(answers: Answers) -> dict[str, float]:
    """The mean weight of a token, and how far weights are from 1."""
    assert answers.weights is not None, "Nothing was weighed."
    return {
        "engine/weight": float(masked_mean(answers.weights, answers.mask)),
        "engine/weight_off": float(masked_mean((answers.weights - 1).abs(), answers.mask)),
    }
