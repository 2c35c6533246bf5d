"""Answers for the annotators: K responses a prompt from the study's sampling policies, queued as comparisons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tqdm import tqdm

from preferences.errors import RankloopError
from preferences.jobs import Job
from preferences.records import Policy, Prompt, Response, Study
from preferences.store import Store
from trainer.batches import chunks
from trainer.budget import SAMPLED, sampling_budget
from trainer.endpoint import Endpoint
from trainer.models import Base
from trainer.policies import policies_or
from trainer.roles import Roles
from trainer.rollout import Sampling
from trainer.room import sample_budget
from trainer.sampler import Drawn, FarSampler, LocalSampler, Sampler, Slot
from trainer.stage import Stage, open_study

RESAMPLES = 3
STORED_AT_ONCE = 64  # prompts: what Ctrl-C can lose


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleStage(Stage):
    """Sample answers to the study's prompts and queue them for the annotators."""

    prompts: int | None = None
    """How many prompts; default all that wait."""
    k: int | None = None
    """Responses a prompt; default the study's K."""
    temperature: float = 0.8
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus sampling; 1 is off."""
    max_new_tokens: int = 128
    """Answers are cut after this many tokens."""
    token_budget: int | None = None
    """Prompt and answer tokens sampled at once; default what fits on the GPU, 6144 on a CPU."""
    endpoint: str | None = None
    """Let the OpenAI-compatible server at this address draw the answers, such as http://localhost:8000/v1 (docs/scale.md).
    Its key is read from RANKLOOP_ENDPOINT_KEY or OPENAI_API_KEY."""
    endpoint_model: str | None = None
    """What the server calls the policy; default an adapter by the policy's name, a base by its model's."""
    concurrency: int = 8
    """Requests to the server at once; fewer while it is busy."""

    def __post_init__(self) -> None:
        self.sampling()
        if self.k is not None and not 2 <= self.k <= 9:
            raise RankloopError(f"k must be from 2 to 9, not {self.k}.")
        if self.prompts is not None and self.prompts < 1:
            raise RankloopError(f"prompts must be at least 1, not {self.prompts}.")
        if self.concurrency < 1:
            raise RankloopError(f"concurrency must be at least 1, not {self.concurrency}.")

    def needs_base(self) -> bool:
        """Not if a server has it."""
        return self.endpoint is None

    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return Sampling(self.temperature, self.top_p, self.max_new_tokens)

    @property
    def at_once(self) -> int:
        """Tokens sampled at once; a CPU's default if nothing was planned."""
        return self.token_budget or SAMPLED


S = TypeVar("S", bound=SampleStage)


def sample(config: SampleStage, store: Store, base: Base | None, job: Job | None = None) -> dict[str, Any]:
    """Answer the prompts that wait and queue one comparison each; {"prompts", "responses", "comparisons", "policies"}.

    `job`: its progress says, with the comparisons themselves, how many prompts are done; of one that was lost
    nothing more is stored.
    """
    study = open_study(store, config.study)
    k, count, comparisons = config.k or study.k, 0, 0
    sampler = sampler_of(config, Roles(base) if base else None, k)
    policies = policies_or(store, study, sampler.plain)
    prompts = store.studies.prompts_without_comparison(study, config.prompts or 10**9)
    done = job.progress.get("prompts", 0) if job else 0
    with tqdm(total=len(prompts) * k, desc="sample", unit="answer") as bar:
        for part in chunks(prompts, STORED_AT_ONCE):
            responses = respond(config, store, sampler, policies, part, k, bar.update)
            count += sum(map(len, responses))
            with store.write():
                comparisons += queue(store, study, part, responses)
                done += len(part)
                if job:
                    store.jobs.hold(job, {"prompts": done})
    names = [policy.name for policy in policies]
    return {"prompts": len(prompts), "responses": count, "comparisons": comparisons, "policies": names}


def sampler_of(config: SampleStage, roles: Roles | None, k: int) -> Sampler:
    """Who draws the answers, as the options say."""
    if config.endpoint:
        return FarSampler(Endpoint(config.endpoint, config.concurrency), config.endpoint_model)
    assert roles is not None, "Without a server the base is needed."
    return LocalSampler(roles, sampling_budget(fitted(config, roles.base, k).at_once, roles.world))


def fitted(config: S, base: Base, k: int) -> S:
    """The options with a token budget that fits the device."""
    return replace(config, token_budget=config.token_budget or sample_budget(base, config.max_new_tokens, k))


def respond(
    config: SampleStage, store: Store, sampler: Sampler, policies: Sequence[Policy], prompts: Sequence[Prompt], k: int,
    on_rows: Callable[[int], object],
) -> list[list[Response]]:  # fmt: skip
    """K stored responses a prompt, shared evenly between the policies; a repeated text is drawn again at most thrice.

    `on_rows` hears how many answers have just ended, those drawn again left out.
    """
    answers: dict[str, list[Drawn]] = {prompt.id: [] for prompt in prompts}
    counts = {(p.id, q.id): next_index(store, p, q) for p in prompts for q in policies}
    slots = []
    for prompt in prompts:
        for number in range(k):
            policy = policies[number % len(policies)]
            slots.append(Slot(prompt, policy, counts[prompt.id, policy.id]))
            counts[prompt.id, policy.id] += 1
    for _ in range(1 + RESAMPLES):
        drawn = sampler.draw(slots, config.sampling(), config.seed, on_rows)
        repeated = []
        for slot, made in zip(slots, drawn, strict=True):
            known = any(made.response.text == other.response.text for other in answers[slot.prompt.id])
            if known and slot.tries < RESAMPLES:
                slot.tries += 1
                slot.index = counts[slot.prompt.id, slot.policy.id]
                counts[slot.prompt.id, slot.policy.id] += 1
                repeated.append(slot)
            else:
                answers[slot.prompt.id].append(made)
        slots, on_rows = repeated, _ignore
    kept = [made for prompt in prompts for made in answers[prompt.id]]
    store.responses.add([one.response for one in kept], {one.response.id: one.provenance for one in kept})
    return [[made.response for made in answers[prompt.id]] for prompt in prompts]


def next_index(store: Store, prompt: Prompt, policy: Policy) -> int:
    """The number of the next sample; not their count, since those drawn again leave gaps."""
    return 1 + max((response.sample_index for response in store.responses.of_prompt(prompt.id, policy.id)), default=-1)


def _ignore(rows: int) -> None:
    """Nobody counts these rows."""


def queue(
    store: Store,
    study: Study,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[Response]],
    origin: str = "sampled",
) -> int:
    """Comparisons of each prompt's responses; how many there are (a prompt whose answers are all equal gives none)."""
    with store.write():
        made = [
            store.comparisons.add(study, prompt.id, answers, origin)
            for prompt, answers in zip(prompts, responses, strict=True)
        ]
    return sum(comparison is not None for comparison in made)
