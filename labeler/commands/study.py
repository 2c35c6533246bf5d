"""`labeler study`: what is asked, and whether it goes on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, subcommand

from labeler.care import plan_of
from labeler.commands.study_care import Exclude, Gold, Hours, Include, OfStudy, Requeue
from preferences.cli import DEFAULT_DB, open_store, print_json, say, shown
from preferences.errors import BadRecord
from preferences.exchange.importing import import_prompts
from preferences.records import Study as StudyRecord
from preferences.rounds import choose_policies
from preferences.store import Store

Mode = Literal["ranking", "best-worst", "pairwise"]


@dataclass(frozen=True, slots=True)
class List:
    """List the studies with their sampling policies."""

    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """One line a study."""
        store = open_store(self.db)
        studies = [study_json(store, study) for study in store.studies.all()]
        if self.json:
            print_json(studies)
            return
        for study in studies:
            policies = ", ".join(study["policies"]) or "no policy"
            waiting = f"{study['status']}, K={study['k']}, {study['waiting']} waiting"
            print(shown(f"{study['name']}: {waiting}; policies: {policies}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies(OfStudy):
    """Choose which policies answer a study's prompts from now on; without names, show which do."""

    names: Positional[tuple[str, ...]] = ()
    """Names or ids of policies."""

    def run(self) -> None:
        """Every name is looked up before anything changes."""
        store, study = self.opened()
        if self.names:
            choose_policies(store, study, [store.policies.get(name) for name in self.names])
        document = study_json(store, study)
        self.say(document, f"{study.name} is answered by {', '.join(document['policies']) or 'no policy'}.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a study can be asked to be; what is not given stays as it is."""

    mode: Mode | None = None
    """ranking: all responses, ties allowed; best-worst: the best and the worst of 6 to 9 first; pairwise: two responses
    and how much better one is."""
    k: int | None = None
    """Responses a comparison, 2 to 9 (a new study: 4, or 2 if pairwise, or 6 if best-worst)."""
    plan: tuple[str, ...] = ()
    """Settings of the plan as name=value: labels_train, shared, labels_shared, labels_heldout, adjudicate, repeats,
    repeat_gap, qualification, gold_pass, gold, quota, quota_day, seed, strengths, rating, own_prompts, content_warnings,
    on_erase, retention_days, and the gates of its rounds: min_rankings, min_accuracy, min_win_rate."""
    flags: tuple[str, ...] | None = None
    """Names of the flags that a response can get (default: those of the board)."""
    guidelines: Path | None = None
    """A Markdown file: a new version of the instructions, if it differs from the newest."""
    consent: Path | None = None
    """A Markdown file: what annotators agree to before their first task; an empty one asks them no more."""
    policies: tuple[str, ...] = ()
    """Names or ids of the policies that answer from now on."""
    annotators: tuple[str, ...] | None = None
    """Names of the annotators to whom the study is limited; without a name it is open to everybody."""
    prompts: Path | None = None
    """A file of prompts to import into the study."""
    heldout: float = 0.1
    """The share of new prompts that is kept out of training, with their near-duplicates."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print the study as JSON."""

    def settings(self) -> dict[str, Any]:
        """The values of the plan that are given. Raises BadPlan."""
        return plan_of(self.plan) | ({"flags": list(self.flags)} if self.flags is not None else {})

    def texts(self) -> dict[str, str]:
        """Guidelines and consent, read before anything changes. Raises BadRecord."""
        given = {"guideline": self.guidelines, "consent": self.consent}
        return {name: read_text(path) for name, path in given.items() if path}

    def finish(self, store: Store, study: StudyRecord, texts: dict[str, str]) -> None:
        """Texts, policies, annotators and prompts; inside the transaction that makes or edits the study."""
        policies = [store.policies.get(name) for name in self.policies]
        if self.annotators is not None:
            store.studies.set_annotators(study, [store.annotators.get(name) for name in self.annotators])
        if "guideline" in texts:
            store.studies.set_guideline(study, texts["guideline"])
        if "consent" in texts:
            store.studies.set_consent(study, texts["consent"])
        if policies:
            choose_policies(store, study, policies)
        if self.prompts:
            import_prompts(store, study, self.prompts, self.heldout)

    def show(self, store: Store, study: StudyRecord, did: str) -> None:
        """Print the study, or the sentence."""
        sentence = f"Study {study.name} is {did}: mode {study.mode}, K={study.k}."
        say(study_json(store, study), sentence, self.json)


@dataclass(frozen=True, slots=True)
class Create(Asked):
    """Create a study."""

    name: Positional[str] = field(kw_only=True)
    """Its name."""

    def run(self) -> None:
        """Whole or not at all."""
        store, texts, mode = Store(self.db), self.texts(), self.mode or "ranking"
        k = self.k or {"ranking": 4, "pairwise": 2, "best-worst": 6}[mode]
        with store.write():
            study = store.studies.create(self.name, k, self.settings(), mode)
            self.finish(store, study, texts)
        self.show(store, study, "created")


@dataclass(frozen=True, slots=True)
class Edit(Asked):
    """Change a study; what it asks for is counted again for what it has already."""

    name: Positional[str] = field(kw_only=True)
    """Which one."""

    def run(self) -> None:
        """Whole or not at all."""
        store, texts = open_store(self.db), self.texts()
        with store.write():
            study = store.studies.edit(store.studies.get(self.name), self.k, self.mode, self.settings())
            self.finish(store, study, texts)
        self.show(store, study, "changed")


@dataclass(frozen=True, slots=True)
class Turn:
    """Which study."""

    name: Positional[str]
    """Its name."""
    db: Path = DEFAULT_DB
    """The database."""
    json: bool = False
    """Print the study as JSON."""

    def turn(self, status: str, sentence: str) -> None:
        """Set the status."""
        store = open_store(self.db)
        study = store.studies.set_status(store.studies.get(self.name), status)
        say(study_json(store, study), sentence.format(study.name), self.json)


@dataclass(frozen=True, slots=True)
class Pause(Turn):
    """Give nobody a new task of a study; what is in hand can be submitted."""

    def run(self) -> None:
        """Until it is resumed."""
        self.turn("paused", "Study {} is paused.")


@dataclass(frozen=True, slots=True)
class Resume(Turn):
    """Go on with a study that is paused or closed."""

    def run(self) -> None:
        """From the next task on."""
        self.turn("active", "Study {} is active.")


@dataclass(frozen=True, slots=True)
class Close(Turn):
    """End a study; it can be resumed."""

    def run(self) -> None:
        """Like a pause, but said to be for good."""
        self.turn("closed", "Study {} is closed.")


@dataclass(frozen=True, slots=True)
class Study:
    """Studies: what is asked, of whom how often, and which policies answer."""

    action: (
        Annotated[List, subcommand("list")]
        | Annotated[Create, subcommand("create")]
        | Annotated[Edit, subcommand("edit")]
        | Annotated[Pause, subcommand("pause")]
        | Annotated[Resume, subcommand("resume")]
        | Annotated[Close, subcommand("close")]
        | Annotated[Policies, subcommand("policies")]
        | Annotated[Exclude, subcommand("exclude")]
        | Annotated[Include, subcommand("include")]
        | Annotated[Requeue, subcommand("requeue")]
        | Annotated[Gold, subcommand("gold")]
        | Annotated[Hours, subcommand("hours")]
    )

    def run(self) -> None:
        """Run the chosen one."""
        self.action.run()


def read_text(path: Path) -> str:
    """A text file's content. Raises BadRecord."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path} cannot be read as UTF-8 text ({error}); give another file.") from error


def study_json(store: Store, study: StudyRecord) -> dict[str, Any]:
    """A study, with the names of its sampling policies."""
    return {
        "name": study.name,
        "status": study.status,
        "k": study.k,
        "mode": study.mode,
        "plan": study.plan,
        "policies": [policy.name for policy in store.studies.sampling_policies(study)],
        "annotators": [annotator.name for annotator in store.studies.annotators(study)],
        "waiting": store.queue.waiting(study),
        "guideline": guideline.version if (guideline := store.studies.guideline(study)) else None,
        "consent": consent.version if (consent := store.studies.consent(study)) else None,
    }
