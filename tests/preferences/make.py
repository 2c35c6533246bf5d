"""Short ways to fill a store."""

from collections.abc import Callable, Sequence

from preferences.oddities import repetition
from preferences.records import Annotator, Comparison, Lease, Pick, Policy, Prompt, Response, Study, Tiers, random_id
from preferences.store import Store
from preferences.tables.rankings import Answer

SECONDS = 60.0


class Clock:
    """Seconds since the epoch that pass only when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def add_prompt(store: Store, text: str, heldout: float = 0.0) -> Prompt:
    """A prompt of one message; never held out unless told so."""
    return store.prompts.add([{"messages": [{"role": "user", "content": text}]}], heldout)[0]


def add_policy(store: Store, name: str) -> Policy:
    """A policy whose id is its name."""
    return store.policies.add(Policy(name, name, "sft"))


def add_comparison(
    store: Store, study: Study, question: str = "Why is the sky blue?", texts: Sequence[str] = ("a", "b", "c", "d")
) -> Comparison:
    """A comparison of those texts, all by policy "sft"."""
    prompt, policy = add_prompt(store, question), add_policy(store, "sft")
    responses = [Response.make(prompt.id, policy.id, text, 7, index) for index, text in enumerate(texts)]
    store.responses.add(responses)
    made = store.comparisons.add(study, prompt.id, responses)
    assert made is not None
    return made


def add_annotator(store: Store, name: str = "ann", simulated: bool = False) -> Annotator:
    """An account that can log in."""
    return store.annotators.add(name, "annotator", "hash", simulated)


def take(store: Store, study: Study, annotator: Annotator, seconds: float = SECONDS) -> Lease | None:
    """A lease on the first candidate, items shown backwards."""
    return store.queue.take(
        study,
        annotator,
        lambda offer: Pick(offer.candidates[0].comparison, offer.candidates[0].purpose) if offer.candidates else None,
        lambda comparison: comparison.items[::-1],
        seconds,
    )


def answer_of(lease: Lease, tiers: Tiers | None = None, nonce: str | None = None) -> Answer:
    """An answer for that lease: by default each item a rank of its own, in the order shown."""
    return Answer(
        lease.comparison, lease.id, nonce or random_id(), [[i] for i in lease.order] if tiers is None else tiers
    )


def rank(store: Store, study: Study, annotator: Annotator, tiers: Tiers | None = None) -> str:
    """Take a comparison and rank it; the id of the ranking."""
    lease = take(store, study, annotator)
    assert lease is not None
    return store.rankings.submit(annotator, answer_of(lease, tiers)).id


def add_duel(
    store: Store, study: Study, wins: Sequence[float], policies: tuple[str, str] = ("ppo", "sft"), judges: int = 3,
    about: str = "Duel", lengths: tuple[int, int] = (1, 1),
) -> list[Comparison]:  # fmt: skip
    """A held-out prompt for each of `wins`, what the first policy wins on it in the eyes of all judges: 0, 0.5 or 1.

    `policies`: ids of stored ones; `lengths`: words that their answers have at least.
    """
    people = [store.annotators.find(f"judge {i}") or add_annotator(store, f"judge {i}") for i in range(judges)]
    made = []
    for i, won in enumerate(wins):
        prompt = add_prompt(store, f"{about} {i} {'x' * (i % 7)}{i * i}?", heldout=1.0)
        store.studies.add_prompts(study, [prompt])
        responses = [
            Response.make(prompt.id, policy, f"{policy} says {i}{' well' * (words + 3 * ((i + at) % 3))}.", 7, 0)
            for at, (policy, words) in enumerate(zip(policies, lengths, strict=True))
        ]
        store.responses.add(responses)
        comparison = store.comparisons.add(study, prompt.id, responses, origin="blind")
        assert comparison is not None
        new, old = (response.id for response in responses)
        tiers = {1: [[new], [old]], 0.5: [[new, old]], 0: [[old], [new]]}[won]
        for person in people:
            store.rankings.add_imported(person, comparison, tiers)
        made.append(comparison)
    return made


def add_checks(store: Store, study: Study, policies: tuple[str, str] = ("pid-secret-ppo", "pid-secret-sft")) -> None:
    """Answers of two policies to two prompts, scored; the longest and the most repetitive of the first one are queued."""
    answers = []
    for i in range(2):
        prompt = add_prompt(store, f"What is odd {i}?")
        store.studies.add_prompts(study, [prompt])
        texts = (f"Very well {i}. " + "So it goes. " * (8 - i), f"Well {i}.")
        answers.append(
            [Response.make(prompt.id, policy, text, 9, 0) for policy, text in zip(policies, texts, strict=True)]
        )
        store.responses.add(answers[-1])
        store.scores.add("runs/reward/adapter", {one.id: float(len(one.text)) for one in answers[-1]})
    queued: dict[str, Callable[[str], float]] = {
        "longest": lambda text: float(len(text)),
        "most repetitive": repetition,
    }
    for kind, value in queued.items():
        store.spot_checks.add(study, kind, [(new.id, value(new.text), old.id) for new, old in answers])
