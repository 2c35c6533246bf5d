"""What annotators and admins do, in any order: no comparison gets more labels than it wants, no answer is stored without a
lease, corrections are chains without branches, what is counted is right, and what was acknowledged stays.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from preferences.errors import NonceUsed, NothingToUndo, NotLeased, UnknownName
from preferences.plan import Plan
from preferences.records import LABELS, Annotator, Lease, Offer, Pick, Ranking, Tiers
from preferences.store import Store
from preferences.tables.rankings import Answer
from tests.preferences.administered import Administered
from tests.preferences.make import Clock, add_annotator, add_comparison, add_prompt
from tests.preferences.truth import Overlap, Truth

pytestmark = pytest.mark.durability
LEASE, DAY = 60.0, 24 * 3600.0
PEOPLE, COMPARISONS = 4, 4
SEATS = st.integers(0, PEOPLE - 1)  # the last one is a simulated annotator
NUMBERS = st.integers(0, COMPARISONS - 1)
BEST = st.integers(0, 2)
BACK = st.sampled_from([0, 0, 0, 1, 2])  # how many before the newest
WISHES = st.sampled_from(["label", "repeat", "gold"])
PLANS = st.fixed_dictionaries(
    {
        "labels_train": st.integers(1, 2),
        "shared": st.sampled_from([0.0, 0.5]),
        "labels_shared": st.just(3),
        "labels_heldout": st.just(2),
        "adjudicate": st.booleans(),
        "repeats": st.sampled_from([0.0, 1.0]),
        "repeat_gap": st.just(0),
        "qualification": st.integers(0, 1),
        "gold": st.just(1.0),
        "on_erase": st.sampled_from(["keep", "delete"]),
    }
)


@cache
def filled() -> Path:
    """A database with comparisons and annotators, made once; the plan of its study is each example's own."""
    folder = Path(tempfile.mkdtemp(prefix="rankloop-"))
    store = Store(folder / "filled.db", Clock())
    study = store.studies.create("s")
    add_prompt(store, "Held out?", heldout=1.0)
    for question in ["Held out?", *(f"Question {n} {n * 7919}?" for n in range(COMPARISONS - 1))]:
        add_comparison(store, study, question, "abc")
    for seat in range(PEOPLE):
        add_annotator(store, f"seat {seat}", simulated=seat == PEOPLE - 1)
    store.settle()
    store.close()
    return store.path


class Desk(Administered, RuleBasedStateMachine):
    """One study, in which anything may happen next."""

    @initialize(plan=PLANS)
    def open(self, plan: dict[str, object]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="rankloop-")
        self.clock, self.overlap = Clock(), Overlap()
        self.store = Store(shutil.copy(filled(), self.folder.name), self.clock)
        self.study = self.store.studies.edit(self.store.studies.default(), plan=plan)
        self.people = [self.store.annotators.get(f"seat {seat}") for seat in range(PEOPLE)]
        self.comparisons = self.store.comparisons.all()
        self.leases: list[list[Lease]] = [[] for _ in self.people]  # all that each was ever given
        self.saved: list[Ranking] = []
        self.acknowledged: dict[str, tuple[str, Tiers]] = {}
        self.nonces = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    # -- annotators ---------------------------------------------------------------------------------------------------

    @rule(seat=SEATS, wish=WISHES)
    def take(self, seat: int, wish: str) -> None:
        self.give(
            seat,
            self.store.queue.take(self.study, self.people[seat], choosing(wish), lambda one: one.items, LEASE),
        )

    @rule(seat=SEATS, wish=WISHES)
    def take_ahead(self, seat: int, wish: str) -> None:
        queue, annotator = self.store.queue, self.people[seat]
        self.give(
            seat, queue.take_ahead([self.study], annotator, choosing(wish), lambda one: one.items, LEASE, spare=0)
        )

    def give(self, seat: int, lease: Lease | None) -> None:
        """It is open, and there is a place for its answer."""
        if lease is None:
            return
        truth = self.truth()
        assert truth.is_open(lease.id, lease.annotator, lease.comparison)
        assert truth.has_place(lease.comparison, lease.annotator, lease.purpose)
        self.leases[seat] = [*(one for one in self.leases[seat] if one.id != lease.id), lease]

    @rule(seat=SEATS, back=BACK, best=BEST, tie=st.booleans())
    def submit(self, seat: int, back: int, best: int, tie: bool) -> None:
        for lease in self.leases[seat][-1 - back :][:1]:
            others = [item for item in lease.order if item != sorted(lease.order)[best]]
            first = [sorted(lease.order)[best]]
            self.answer(
                lease, self.store.rankings.submit, [first, others] if tie else [first, *([one] for one in others)]
            )

    @rule(seat=SEATS, back=BACK)
    def skip(self, seat: int, back: int) -> None:
        for lease in self.leases[seat][-1 - back :][:1]:
            self.answer(lease, self.store.rankings.skip, [])

    def answer(self, lease: Lease, act: Callable[[Annotator, Answer], Ranking], tiers: Tiers) -> None:
        """Stored if the lease is open and nobody has the place, refused else."""
        owner, truth, nonce = self.store.annotators.get(lease.annotator), self.truth(), self.nonce()
        may = truth.is_open(lease.id, owner.id, lease.comparison) and (
            not tiers or truth.has_place(lease.comparison, owner.id, lease.purpose)
        )
        try:
            made = act(owner, Answer(lease.comparison, lease.id, nonce, tiers))
        except NotLeased:
            assert not may
            return
        assert may
        self.acknowledged[made.id] = (nonce, tiers)
        self.saved.append(made)

    @rule(back=BACK, seat=SEATS)
    def send_again(self, back: int, seat: int) -> None:
        """A retry is known by its nonce, whatever it is about; of whoever was erased nothing may be known any more."""
        for ranking, lease in zip(self.saved[-1 - back :][:1], self.leases[seat][-1:], strict=False):
            owner = self.store.annotators.get(ranking.annotator)
            if self.store.rankings.of_nonce(owner, ranking.nonce) is None:
                return
            for act in (self.store.rankings.submit, self.store.rankings.skip):
                with pytest.raises(NonceUsed) as known:
                    act(owner, Answer(lease.comparison, lease.id, ranking.nonce, ranking.tiers))
                assert known.value.ranking == ranking.id

    @rule(seat=SEATS, other=SEATS)
    def use_anothers_lease(self, seat: int, other: int) -> None:
        for lease in self.leases[other][-1:] if other != seat else ():
            with pytest.raises(NotLeased):
                self.store.rankings.skip(self.people[seat], Answer(lease.comparison, lease.id, self.nonce()))
            with pytest.raises(NotLeased):
                self.store.queue.revive(lease.id, self.people[seat], lease.comparison, LEASE)

    @rule(seat=SEATS)
    def undo(self, seat: int) -> None:
        """What counts can always be taken back, unless an admin's act has left the comparison with too many."""
        truth, annotator = self.truth(), self.people[seat]
        newest = [act for act in truth.standing if act["annotator"] == annotator.id][-1:]
        try:
            undone, lease = self.store.rankings.undo(annotator, self.nonce(), LEASE)
        except NothingToUndo:
            assert not newest or (newest[0]["purpose"] in LABELS and not self.undoable(truth, newest[0]["id"]))
            return
        assert [undone.id] == [act["id"] for act in newest]
        self.give(seat, lease)

    def undoable(self, truth: Truth, ranking: str) -> bool:
        """Whether it counts, and its comparison has no more labels than it wants."""
        (act,) = [act for act in truth.acts if act["id"] == ranking]
        place = (act["comparison"], act["purpose"], truth.simulated[act["annotator"]])
        return truth.counts_now(ranking) and truth.counts()[place] <= truth.most(place)

    @rule(seat=SEATS, back=BACK)
    def reopen(self, seat: int, back: int) -> None:
        """One's own answer that stands; one that counts always."""
        truth, annotator = self.truth(), self.people[seat]
        for ranking in self.saved[-1 - back :][:1]:
            theirs = any((act["id"], act["annotator"]) == (ranking.id, annotator.id) for act in truth.standing)
            try:
                lease = self.store.rankings.reopen(annotator, ranking.id, LEASE)
            except UnknownName:
                assert not theirs
            except NothingToUndo:
                assert theirs and not truth.counts_now(ranking.id)
            else:
                assert theirs
                self.give(seat, lease)

    @rule(seat=SEATS, wish=WISHES, best=BEST)
    def rank(self, seat: int, wish: str, best: int) -> None:
        """What mostly follows one another."""
        self.take(seat, wish)
        self.submit(seat, 0, best, tie=False)

    @rule(back=BACK, best=BEST)
    def change(self, back: int, best: int) -> None:
        """An answer of whoever gave it, as long as they are there."""
        for ranking in self.saved[-1 - back :][:1]:
            for seat, annotator in enumerate(self.people):
                if annotator.id == ranking.annotator:
                    self.reopen(seat, back)
                    self.submit(seat, 0, best, tie=True)

    @rule(seat=SEATS, back=BACK)
    def renew(self, seat: int, back: int) -> None:
        """Also when it ran out: then only if nobody has, or may yet fill, the place."""
        for lease in self.leases[seat][-1 - back :][:1]:
            before, owner = self.truth(), self.store.annotators.get(lease.annotator)
            try:
                renewed = self.store.queue.revive(lease.id, owner, lease.comparison, LEASE)
            except NotLeased:
                return
            ran_out = lease.id not in {row["id"] for row in before.open_leases()}
            if ran_out and lease.purpose in LABELS and not before.simulated[owner.id]:
                given, holders = before.labels(lease.comparison), before.holders(lease.comparison)
                most = before.wanted(lease.comparison) + before.extra(lease.comparison)
                theirs = owner.id in {act["annotator"] for act in given} | holders
                assert theirs or len(given) + len(holders) < most
            self.give(seat, renewed)

    @rule(seat=SEATS, back=BACK)
    def give_back(self, seat: int, back: int) -> None:
        for lease in self.leases[seat][-1 - back :][:1]:
            open_before = self.truth().is_open(lease.id, lease.annotator, lease.comparison)
            try:
                self.store.queue.release(self.store.queue.check(lease.id, lease.annotator, lease.comparison))
            except NotLeased:
                assert not open_before

    @rule(seat=SEATS, best=BEST)
    def draft(self, seat: int, best: int) -> None:
        """Kept until the next one, or until the answer."""
        for lease in self.leases[seat][-1:]:
            owner, body = self.store.annotators.get(lease.annotator), {"tiers": [[lease.order[best]]]}
            if self.truth().is_open(lease.id, owner.id, lease.comparison):
                self.store.queue.save_draft(lease.comparison, owner, body)
                kept = self.store.queue.draft(lease.comparison, owner)
                assert kept is not None and kept.body == body

    # -- time ---------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE, LEASE, DAY, -LEASE / 2, -LEASE]))
    def wait(self, seconds: float) -> None:
        """A clock may also be set back: a lease that ran out is open again, and somebody else has one as well."""
        self.clock.now += seconds

    # -- admins -------------------------------------------------------------------------------------------------------

    exclude_or_lift = rule(seat=SEATS)(Administered.exclude_or_lift)
    change_the_plan = rule(plan=PLANS)(Administered.change_the_plan)

    @rule()
    def ask_again_under_new_guidelines(self) -> None:
        self.store.studies.set_guideline(self.study, f"Version {self.nonce()}")
        self.store.exclusions.requeue_outdated(self.study)
        assert self.store.rankings.current(self.study.id) == []

    @rule(number=NUMBERS, best=BEST)
    def make_gold_or_not(self, number: int, best: int) -> None:
        comparison = self.comparisons[number]
        if self.store.golds.get(comparison.id):
            self.store.golds.remove(comparison)
        else:
            items = comparison.items
            self.store.golds.add(comparison, [[items[best]], [item for item in items if item != items[best]]])
        self.overlap.admit(self.truth())

    @rule(seat=SEATS, passed=st.booleans())
    def qualify(self, seat: int, passed: bool) -> None:
        self.store.golds.decide(self.study, self.people[seat], passed)

    @rule(seat=SEATS, number=NUMBERS, best=BEST)
    def bring_in(self, seat: int, number: int, best: int) -> None:
        """An import of what somebody ranked elsewhere."""
        comparison = self.comparisons[number]
        rest = [item for item in comparison.items if item != comparison.items[best]]
        self.store.rankings.add_imported(self.people[seat], comparison, [[comparison.items[best]], rest])
        self.overlap.admit(self.truth())

    @rule(seat=SEATS)
    def erase(self, seat: int) -> None:
        """Somebody else sits down there."""
        gone, truth = self.people[seat], self.truth()
        theirs = {act["id"] for act in truth.acts if act["annotator"] == gone.id}
        done = self.store.erasures.erase(gone)
        deletes = Plan.of(self.study.plan).on_erase == "delete"
        assert done["deleted" if deletes else "kept"] == len(theirs)
        if deletes:
            self.acknowledged = {ident: said for ident, said in self.acknowledged.items() if ident not in theirs}
        self.people[seat] = add_annotator(self.store, f"seat {seat} {self.nonce()}", gone.simulated)
        self.leases[seat] = []

    # -- what holds after each of these -------------------------------------------------------------------------------

    @invariant()
    def nothing_is_over_lost_or_counted_wrongly(self) -> None:
        truth = self.truth()
        truth.check()
        self.overlap.check(truth)
        stored = {act["id"]: act for act in truth.acts}
        for ident, (nonce, tiers) in self.acknowledged.items():
            assert (stored[ident]["nonce"], json.loads(stored[ident]["tiers"])) == (nonce, tiers)


def choosing(wish: str) -> Callable[[Offer], Pick | None]:
    """The first of that kind, else the first of all that is offered."""

    def choose(offer: Offer) -> Pick | None:
        offered = {
            "repeat": [Pick(one, "repeat") for one in offer.repeats],
            "gold": [Pick(one, "gold") for one in offer.golds],
            "label": [Pick(one.comparison, one.purpose) for one in offer.candidates],
        }
        return next(iter([*offered[wish], *(pick for picks in offered.values() for pick in picks)]), None)

    return choose


@pytest.mark.parametrize("examples", [pytest.param(15, marks=pytest.mark.smoke), 150])
def test_whatever_annotators_and_admins_do_in_any_order(examples: int) -> None:
    run_state_machine_as_test(
        Desk,
        settings=settings(
            max_examples=examples, stateful_step_count=40, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        ),
    )  # fmt: skip
