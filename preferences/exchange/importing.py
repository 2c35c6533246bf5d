"""Ranked sets and prompts into a study: whole or not at all, and the same file again changes nothing."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preferences.exchange.checks import RESPONSE_FIELDS, check_prompt, check_ranked_set
from preferences.exchange.formats.common import RankedSet
from preferences.exchange.names import pseudonym
from preferences.exchange.pairwise import as_rankings
from preferences.exchange.reading import chunks, converted, refuse
from preferences.images import ImageFiles
from preferences.rankings import ALL_BAD
from preferences.records import SPLITS, Annotator, Comparison, Policy, Response, Study, Tiers, content_id
from preferences.store import Store
from preferences.tables.prompts import Intake

CHUNK = 250  # records that are held at once
SHOWN = 5  # sentences about skipped records that are kept

Convert = Callable[[Any], list[RankedSet]]


@dataclass(slots=True)
class Imported:
    """What an import did. `prompts`, `heldout`: how many the study has now; `new_prompts`, `comparisons`, `rankings`: new.

    `cannot_rank`: new verdicts that a set cannot be ranked. `replaced`: of the new rankings and verdicts, those in whose
    place there was another one by the same annotator. `intransitive`, `incomplete`: sets of pairs that no ranking can
    express, or that leave a pair out, kept as pairs. `skipped`: records left out, with the first sentences about them in
    `problems`.
    """

    prompts: int = 0
    heldout: int = 0
    new_prompts: int = 0
    comparisons: int = 0
    rankings: int = 0
    cannot_rank: int = 0
    replaced: int = 0
    intransitive: int = 0
    incomplete: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)

    def skip(self, sentence: str) -> None:
        """Count a record that is left out."""
        self.skipped += 1
        if len(self.problems) < SHOWN:
            self.problems.append(sentence)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def import_rankings(
    store: Store, study: Study, path: Path, sets: Convert = lambda record: [record], heldout: float = 0.1,
    skip_bad: bool = False,
) -> Imported:  # fmt: skip
    """Import the ranked sets that `sets` makes of each record of a file; by default each is one.

    Raises BadRecord for the first bad record, unless they are to be skipped; then nothing is stored.
    """
    done = Imported()
    bad = done.skip if skip_bad else refuse

    def convert(value: Any) -> list[RankedSet]:
        try:
            made = sets(pictures.place(value))
        except (AttributeError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"it has not the shape of its format ({error})") from error
        for record in made:
            check_ranked_set(record)
        return made

    pictures = ImageFiles(path if path.is_dir() else path.parent)
    with store.write(), store.prompts.intake(heldout) as intake:
        before = store.comparisons.count(study)
        importer = Importer(store, study, intake, done)
        for chunk in chunks(converted(path, convert, bad), CHUNK):
            store.images.add(pictures.take())
            importer.add(
                [
                    with_split(record, split)
                    for where, records, split in chunk
                    if importer.knows_all(records, f"{path}, {where}", bad)
                    for record in records
                ]
            )
        done.comparisons = store.comparisons.count(study) - before
    done.prompts, done.heldout = store.studies.count_prompts(study)
    return done


def import_prompts(store: Store, study: Study, path: Path, heldout: float = 0.1, skip_bad: bool = False) -> Imported:
    """Import prompts into a study. Raises BadRecord, unless bad ones are to be skipped; then nothing is stored."""
    done = Imported()

    def convert(value: Any) -> dict[str, Any]:
        record: dict[str, Any] = pictures.place(as_prompt(value))
        check_prompt(record)
        return record

    pictures = ImageFiles(path if path.is_dir() else path.parent)
    with store.write(), store.prompts.intake(heldout) as intake:
        for chunk in chunks(converted(path, convert, done.skip if skip_bad else refuse), CHUNK):
            store.images.add(pictures.take())
            idents = intake.add(with_split(record, split) for _, record, split in chunk)
            done.new_prompts += store.studies.add_prompts(study, idents)
    done.prompts, done.heldout = store.studies.count_prompts(study)
    return done


def with_split(record: dict[str, Any], split: str) -> dict[str, Any]:
    """The record with the split that its folder of `datasets` puts it into, if that is one of ours."""
    return {**record, "split": split} if split in SPLITS else record


def as_prompt(record: Any) -> Any:
    """A record whose prompt, by any of the usual names, is a text or a list of messages, as {messages: [...]}."""
    if not isinstance(record, dict) or "messages" in record:
        return record
    prompt = next((record[name] for name in ("prompt", "instruction", "question", "text") if name in record), None)
    if prompt is None:
        return record
    return {**record, "messages": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt}


class Importer:
    """Ranked sets into one study. It remembers policies and accounts, whose number does not grow with the file."""

    def __init__(self, store: Store, study: Study, intake: Intake, done: Imported) -> None:
        self.store = store
        self.study = study
        self.intake = intake
        self.done = done
        self.policies: dict[str, Policy] = {}
        # An export of this study that comes back names people by their pseudonyms.
        self.accounts = {pseudonym(study, account): account for account in store.annotators.all()}

    def knows_all(self, records: list[RankedSet], where: str, bad: Callable[[str], None]) -> bool:
        """Find or make the account of every annotator; False, after a call of `bad`, where one is mixed up."""
        for record in records:
            for annotation in record.get("annotations") or []:
                name, simulated = annotation["annotator"], bool(annotation.get("simulated"))
                if self.account(name, simulated).simulated != simulated:
                    words = ("a person", "simulated")
                    bad(
                        f"{where}: annotator {name!r} is {words[simulated]} in the file and {words[not simulated]} in the "
                        "database; rename one of them."
                    )
                    return False
        return True

    def account(self, name: str, simulated: bool = False) -> Annotator:
        """The account of that name; a new one cannot log in."""
        if name not in self.accounts:
            known = self.store.annotators.find(name)
            self.accounts[name] = known or self.store.annotators.add(name, "annotator", "", simulated)
        return self.accounts[name]

    def policy(self, name: str) -> Policy:
        """The policy of that name; a new one is marked as imported."""
        if name not in self.policies:
            parts = () if name == "imported" else (name,)
            made = Policy(content_id("policy", "imported", *parts), name, "imported")
            self.policies[name] = self.store.policies.find(name) or self.store.policies.add(made)
        return self.policies[name]

    def add(self, records: list[RankedSet]) -> None:
        """Store ranked sets that are known to be sound."""
        units = []
        for record in records:
            parts, problem = as_rankings(record)
            units += parts
            self.done.intransitive += problem == "intransitive"
            self.done.incomplete += problem == "incomplete"
        prompts = self.intake.add({**unit, "messages": unit["prompt"]} for unit in units)
        self.done.new_prompts += self.store.studies.add_prompts(self.study, prompts)
        responses = [self.responses(prompt, unit) for prompt, unit in zip(prompts, units, strict=True)]
        self.store.responses.add(response for of_unit in responses for response in of_unit)
        for unit, of_unit in zip(units, responses, strict=True):
            self.add_set(unit, of_unit)

    def responses(self, prompt: str, record: RankedSet) -> list[Response]:
        """The record's responses. Equal texts of one policy are told apart by their number among these."""
        made, seen = [], Counter[tuple[str, str]]()
        for answer in record["responses"]:
            policy = self.policy(answer.get("model") or "imported").id
            given = {name: answer[name] for name in RESPONSE_FIELDS if name != "model" and answer.get(name) is not None}
            index = given.pop("sample_index", seen[policy, answer["text"]])
            seen[policy, answer["text"]] += 1
            made.append(Response.make(prompt, policy, answer["text"], given.pop("seed", 0), index, **given))
        return made

    def add_set(self, record: RankedSet, responses: list[Response]) -> None:
        """Store one comparison and its rankings."""
        comparison = self.comparison(record, responses)
        if comparison is None:
            return
        ids = [response.id for response in responses]
        for annotation in record.get("annotations") or []:
            tiers = shown_tiers([[ids[i] for i in tier] for tier in annotation.get("ranking") or []], comparison)
            added, replaced = self.store.rankings.add_imported(
                self.account(annotation["annotator"]), comparison, tiers,
                **details_of(annotation, [comparison.same[ident] for ident in ids]),
            )  # fmt: skip
            if annotation.get("verdict"):
                self.done.cannot_rank += added
            else:
                self.done.rankings += added
            self.done.replaced += replaced

    def comparison(self, record: RankedSet, responses: list[Response]) -> Comparison | None:
        """The record's comparison and whether it is new; None if it has nothing to compare.

        A record's id tells two sets of the same responses apart. The id of a comparison of this study, which an export
        writes, means that one. Equal texts stay apart if a person ranked them so; a set that nobody ranked yet shows
        them once.
        """
        ids = {response.id for response in responses}
        known = self.store.comparisons.find(record["id"]) if record.get("id") else None
        if known and known.study == self.study.id and set(known.same) == ids:
            return known
        same = None
        if record.get("annotations") or any(answer.get("same_as") is not None for answer in record["responses"]):
            same = {
                response.id: responses[i if answer.get("same_as") is None else answer["same_as"]].id
                for i, (answer, response) in enumerate(zip(record["responses"], responses, strict=True))
            }
        return self.store.comparisons.add(
            self.study, responses[0].prompt, responses, origin="imported", same=same, record=record.get("id")
        )


def details_of(annotation: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    """What an annotation says beside the ranking, as fields of Ranking. `shown`: the item that each response is."""
    kept = ("mode", "verdict", "strengths", "reason", "rewrite", "active_ms", "created")
    details = {name: annotation[name] for name in kept if annotation.get(name) is not None}
    flags = {shown[i]: marks for i, marks in enumerate(annotation.get("flags") or []) if marks}
    details["flags"] = {**flags, ALL_BAD: [ALL_BAD]} if annotation.get("all_bad") else flags
    details["ratings"] = {shown[i]: rating for i, rating in enumerate(annotation.get("ratings") or []) if rating}
    if annotation.get("rewrite_of") is not None:
        details["rewrite_of"] = shown[annotation["rewrite_of"]]
    return {**details, "order": [shown[i] for i in annotation.get("shown") or []]}


def shown_tiers(tiers: Tiers, comparison: Comparison) -> Tiers:
    """The tiers over shown items: of responses that are shown as one, the best-placed one counts."""
    seen: set[str] = set()
    shown = []
    for tier in tiers:
        kept = [item for item in dict.fromkeys(comparison.same[response] for response in tier) if item not in seen]
        seen.update(kept)
        if kept:
            shown.append(kept)
    return shown
