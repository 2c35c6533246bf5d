"""What leaves: each export as a stream of records, all with the split that was frozen at import."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from preferences.exchange.names import pseudonym
from preferences.exchange.pictures import Pictures
from preferences.exchange.reading import chunks
from preferences.exchange.soft import Shares, by_annotator_model, by_votes
from preferences.rankings import ALL_BAD
from preferences.records import Annotator, Comparison, Message, Policy, Prompt, Ranking, Response, Study
from preferences.store import Store

BATCH = 500  # comparisons that are read at once

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A comparison with its current rankings; `responses`: every response of it by id, in the record's own order."""

    prompt: Prompt
    comparison: Comparison
    responses: dict[str, Response]
    rankings: list[Ranking]


@dataclass(frozen=True, slots=True)
class Source:
    """Whose rankings leave, and what the card says of them.

    `split`: None for all. `names`: with the annotators' names instead of pseudonyms; `called`: account -> its name there.
    `images`: with the pictures that prompts show; `pictures`: how they are taken along, None for not at all.
    `annotator_model`: soft labels weigh annotators by their accuracy (`preferences.consensus`).
    """

    store: Store
    study: Study
    split: str | None = None
    simulated: bool = False
    names: bool = False
    license: str = "unknown"
    citation: str = ""
    annotator_model: bool = False
    images: bool = True
    pictures: Pictures | None = None
    policies: dict[str, Policy] = field(default_factory=dict)
    annotators: dict[str, Annotator] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(store: Store, study: Study, split: str | None, **options: Any) -> "Source":
        """A source that knows the names of policies and annotators; `options`: further fields."""
        policies = {policy.id: policy for policy in store.policies.all()}
        annotators = {annotator.id: annotator for annotator in store.annotators.all()}
        names = options.get("names", False)
        called = {ident: account.name if names else pseudonym(study, account) for ident, account in annotators.items()}
        return Source(store, study, split, policies=policies, annotators=annotators, called=called, **options)

    def ranked(self) -> Iterator[Ranked]:
        """Every comparison that has a current ranking, in the order of the comparisons; a batch in memory at once."""
        idents = self.store.comparisons.ranked_ids(self.study, self.split, self.simulated)
        for chunk in chunks(idents, BATCH):
            comparisons = self.store.comparisons.get_many(chunk)
            rankings = self.store.rankings.by_comparison(chunk, self.simulated)
            prompts = self.store.prompts.get_many({made.prompt for made in comparisons})
            found = self.store.responses.get_many([ident for made in comparisons for ident in made.same])
            for made in comparisons:
                responses = {ident: found[ident] for ident in made.same}
                yield Ranked(prompts[made.prompt], made, responses, rankings[made.id])


def answer(text: str) -> list[Message]:
    """The assistant's turn."""
    return [{"role": "assistant", "content": text}]


def preference_pairs(source: Source) -> Iterator[Record]:
    """TRL's preference format, explicit prompt, conversational: two responses that a majority put apart; no ties.

    `margin`: how much better, the strengths between their tiers summed, its mean over the rankings that say so and give all
    of these strengths, 0 without any (Llama 2, 2307.09288, section 3.2.2). `soft_label`: the share of rankings that prefer
    `chosen`, a tie counting one half; with `source.annotator_model` the chance that `chosen` is better, which also decides
    which one that is.
    """
    shares: Shares = by_votes
    if source.annotator_model:
        shares = by_annotator_model(source.store, source.study, source.simulated)
    for ranked in source.ranked():
        for (a, b), share in shares(ranked.comparison, ranked.rankings).items():
            if share == 0.5:
                continue
            chosen, rejected = (a, b) if share > 0.5 else (b, a)
            yield {
                "prompt": ranked.prompt.messages,
                "chosen": answer(ranked.responses[chosen].text),
                "rejected": answer(ranked.responses[rejected].text),
                "margin": margin(ranked.rankings, chosen, rejected),
                "soft_label": max(share, 1 - share),
                "split": ranked.prompt.split,
            }


def margin(rankings: list[Ranking], chosen: str, rejected: str) -> float:
    """Mean strength between two items over the rankings that put `chosen` first and say how strongly (0: unsaid); else 0."""
    found = []
    for ranking in rankings:
        place = {item: tier for tier, items in enumerate(ranking.tiers) for item in items}
        between = ranking.strengths[place[chosen] : place[rejected]]
        if between and all(between):
            found.append(sum(between))
    return float(sum(found) / len(found)) if found else 0.0


def unpaired(source: Source) -> Iterator[Record]:
    """TRL's unpaired preference format (for KTO): an answer and whether it is acceptable.

    Not acceptable: flagged by at least half of those who ranked it, or one of a set that at least half called all bad.
    Acceptable: in the best tier of more than half, and flagged by nobody. Of the other answers nothing is known.
    """
    for ranked in source.ranked():
        half = len(ranked.rankings) / 2
        best = Counter(item for ranking in ranked.rankings for item in ranking.tiers[0])
        flagged = Counter(item for ranking in ranked.rankings for item in flagged_items(ranking))
        for item in ranked.comparison.items:
            bad = flagged[item] >= half
            if bad or (best[item] > half and not flagged[item]):
                yield {
                    "prompt": ranked.prompt.messages,
                    "completion": answer(ranked.responses[item].text),
                    "label": not bad,
                    "split": ranked.prompt.split,
                }


def flagged_items(ranking: Ranking) -> list[str]:
    """The items that the annotator flagged: all of them if all are bad."""
    items = [item for tier in ranking.tiers for item in tier]
    return items if ranking.flags.get(ALL_BAD) else [item for item in items if ranking.flags.get(item)]


def demonstrations(source: Source) -> Iterator[Record]:
    """Conversations to imitate, for SFT: each rewrite, or without one the answer that most rankings put first, alone.

    An answer that anyone flagged is none to imitate. `kind`: "rewrite" or "top".
    """
    for ranked in source.ranked():
        texts = dict.fromkeys(ranking.rewrite for ranking in ranked.rankings if ranking.rewrite.strip())
        kind = "rewrite"
        if not texts:
            kind, texts = "top", dict.fromkeys(top_answer(ranked))
        for text in texts:
            yield {
                "messages": ranked.prompt.messages + answer(text),
                "kind": kind,
                "split": ranked.prompt.split,
            }


def top_answer(ranked: Ranked) -> list[str]:
    """The text of the item that more than half put alone in the best tier and nobody flagged, if there is one."""
    best = Counter(ranking.tiers[0][0] for ranking in ranked.rankings if len(ranking.tiers[0]) == 1)
    flagged = {item for ranking in ranked.rankings for item in flagged_items(ranking)}
    return [
        ranked.responses[item].text
        for item, count in best.items()
        if count > len(ranked.rankings) / 2 and item not in flagged and ranked.responses[item].text.strip()
    ]


def prompts(source: Source) -> Iterator[Record]:
    """The study's prompts, ranked or not."""
    for prompt in source.store.prompts.all(source.split, source.study.id):
        yield {
            "messages": prompt.messages,
            "source": prompt.source,
            "language": prompt.language,
            "tags": prompt.tags,
            "split": prompt.split,
        }


def grouped(
    store: Store, study: Study, split: str | None, simulated: bool
) -> Iterator[tuple[Comparison, list[Ranking]]]:
    """Each ranked comparison with its current rankings, in the order of the comparisons."""
    idents = store.comparisons.ranked_ids(study, split, simulated)
    for chunk in chunks(idents, BATCH):
        rankings = store.rankings.by_comparison(chunk, simulated)
        for comparison in store.comparisons.get_many(chunk):
            yield comparison, rankings[comparison.id]
