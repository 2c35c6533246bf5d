"""The annotators' queue: leases and drafts; what there is to lease stands in `supply`."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from preferences.errors import NotLeased
from preferences.records import LABELS, Annotator, Comparison, Draft, Lease, Offer, Pick, Purpose, Study, random_id
from preferences.tables.supply import Supply
from preferences.tables.table import from_row, to_row


class Queue(Supply):
    """Who ranks what now. `order` and the choice itself come from pure functions of the labeler."""

    def take(
        self,
        study: Study,
        annotator: Annotator,
        choose: Callable[[Offer], Pick | None],
        arrange: Callable[[Comparison], list[str]],
        seconds: float,
    ) -> Lease | None:
        """The annotator's open lease, renewed, or a new one on what `choose` picks; None if it picks none.

        `arrange` gives the order in which the items are shown; a repeat has the reverse of the first one. An open lease
        whose place others have filled is given back. A lease alone does not wait for the disk.
        """
        with self.store.write(durable=False):
            for held in self.all_held(annotator, study):
                if self.has_place(held.comparison, annotator, held.purpose):
                    return self.renew(held, seconds)
                self.release(held)
            self.store.golds.qualify(study, annotator)
            offer = self.offer(study, annotator)
            return self._lease_chosen(annotator, self._begun(annotator, offer) or choose(offer), arrange, seconds)

    def take_ahead(
        self,
        studies: Iterable[Study],
        annotator: Annotator,
        choose: Callable[[Offer], Pick | None],
        arrange: Callable[[Comparison], list[str]],
        seconds: float,
        spare: int,
    ) -> Lease | None:
        """The annotator's second open lease in those studies, or a new one for what comes after the first.

        `studies`: theirs, that of the task in hand first; one is looked at only if those before it have nothing left. None
        if they hold no first lease, or if then fewer than `spare` comparisons would be left for others, or if the first may
        decide whether they get another (in a qualification).
        """
        with self.store.write(durable=False):
            studies = list(studies)
            held = {study.id: self.all_held(annotator, study) for study in studies}
            leases = [lease for of_study in held.values() for lease in of_study]
            if len(leases) != 1:
                return leases[1] if leases else None
            for study in studies:
                in_hand = held[study.id]
                offer = self.offer(study, annotator, ahead=len(in_hand))
                left = [one for one in offer.candidates if one.comparison != leases[0].comparison]
                last_gold = in_hand and in_hand[0].purpose == "gold" and self.store.golds.undecided(study, annotator)
                if offer.qualifying or last_gold:
                    return None
                if len(left) > spare:
                    return self._lease_chosen(annotator, choose(replace(offer, candidates=left)), arrange, seconds)
                if left or offer.repeats:
                    return None
            return None

    def has_task(self, study: Study, annotator: Annotator) -> bool:
        """Whether `take` would have something of the study for the annotator."""
        with self.store.write(durable=False):
            self.store.golds.qualify(study, annotator)
            offer = self.offer(study, annotator)
            return bool(self.held(annotator, study) or offer.qualifying or offer.repeats or offer.candidates)

    def _lease_chosen(
        self,
        annotator: Annotator,
        chosen: Pick | None,
        arrange: Callable[[Comparison], list[str]],
        seconds: float,
    ) -> Lease | None:
        if chosen is None:
            return None
        first = self.store.rankings.of_comparison(annotator, chosen.comparison) if chosen.purpose == "repeat" else None
        order = first.order[::-1] if first else arrange(self.store.comparisons.get(chosen.comparison))
        return self.lease(chosen.comparison, annotator, order, seconds, chosen.purpose)

    def lease(
        self, comparison: str, annotator: Annotator, order: list[str], seconds: float, purpose: Purpose = "label"
    ) -> Lease:
        """A new lease, whatever else is leased."""
        now = self.store.clock()
        made = Lease(random_id(), comparison, annotator.id, order, now, now + seconds, purpose=purpose)
        row = to_row(made)
        row["shown"] = row.pop("order")
        self.insert("leases", [row])
        return made

    def held(self, annotator: Annotator, study: Study | None = None) -> Lease | None:
        """The annotator's first open lease (in that study), or None; a second one is for what comes after it."""
        held = self.all_held(annotator, study)
        return held[0] if held else None

    def all_held(self, annotator: Annotator, study: Study | None = None) -> list[Lease]:
        """The annotator's open leases (in that study), oldest first."""
        found = self.rows(
            "SELECT l.*, l.shown AS 'order' FROM leases AS l JOIN comparisons AS c ON c.id = comparison "
            "WHERE annotator = ? AND released IS NULL AND expires > ? AND (? IS NULL OR c.study = ?) "
            "ORDER BY l.rowid",
            annotator.id, self.store.clock(), study and study.id, study and study.id,
        )  # fmt: skip
        return [from_row(Lease, row) for row in found]

    def study_in_hand(self, annotator: Annotator) -> str | None:
        """The id of the study whose comparison the annotator was given first of those that they hold, or None."""
        row = self.row(
            "SELECT c.study FROM leases AS l JOIN comparisons AS c ON c.id = l.comparison "
            "WHERE l.annotator = ? AND l.released IS NULL AND l.expires > ? ORDER BY l.rowid LIMIT 1",
            annotator.id,
            self.store.clock(),
        )
        return row["study"] if row else None

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """The same lease, ending `seconds` from now."""
        with self.store.write() as db:
            db.execute("UPDATE leases SET expires = ? WHERE id = ?", [self.store.clock() + seconds, lease.id])
        return self.check(lease.id, lease.annotator, lease.comparison)

    def revive(self, lease: str, annotator: Annotator, comparison: str, seconds: float) -> Lease:
        """The annotator's own lease, ending `seconds` from now, also if it ran out meanwhile: work done offline is kept.

        Raises NotLeased if it is not theirs, was given back, they have answered the comparison since, or others have taken
        its place.
        """
        with self.store.write():
            found = self._assigned(lease, annotator.id, comparison)
            answered = self.store.rankings.of_comparison(annotator, comparison)
            if found.released is not None or (answered and answered.created > found.created):
                raise NotLeased("You have answered this comparison meanwhile; load the page again to get the next one.")
            again = [held for held in self.all_held(annotator) if held.comparison == comparison]
            mine = again[-1] if again else found
            room = again or mine.purpose not in LABELS or self.has_room(comparison, annotator)
            if not room or not self.has_place(comparison, annotator, mine.purpose):
                raise NotLeased("Others have taken this comparison since; load the page again to get the next one.")
            return self.renew(mine, seconds)

    def release(self, lease: Lease) -> None:
        """Give the comparison back. If the clock jumped, the annotator may have been given it twice: both leases end."""
        with self.store.write() as db:
            db.execute(
                "UPDATE leases SET released = ? WHERE annotator = ? AND comparison = ? AND released IS NULL",
                [self.store.clock(), lease.annotator, lease.comparison],
            )

    def check(self, lease: str, annotator: str, comparison: str) -> Lease:
        """The open lease of that id. Raises NotLeased unless it is this annotator's, on this comparison, and open."""
        found = self._assigned(lease, annotator, comparison)
        if found.released is not None or found.expires <= self.store.clock():
            raise NotLeased("Your time for this comparison ran out; load the page again (your draft is kept).")
        return found

    def _assigned(self, lease: str, annotator: str, comparison: str) -> Lease:
        """The lease of that id, open or not. Raises NotLeased unless it is this annotator's, on this comparison."""
        row = self.row("SELECT *, shown AS 'order' FROM leases WHERE id = ?", lease)
        if row is None or row["annotator"] != annotator or row["comparison"] != comparison:
            raise NotLeased("This comparison is not assigned to you; load the page again to get the next one.")
        return from_row(Lease, row)

    def save_draft(self, comparison: str, annotator: Annotator, body: dict[str, Any]) -> Draft:
        """Keep what is placed so far; the newest draft replaces the earlier one."""
        made = Draft(comparison, annotator.id, body, self.store.clock())
        sql = (
            "INSERT INTO drafts (comparison, annotator, body, updated) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (comparison, annotator) DO UPDATE SET body = excluded.body, updated = excluded.updated"
        )
        with self.store.write(durable=False) as db:
            db.execute(sql, [comparison, annotator.id, json.dumps(body), made.updated])
        return made

    def drop_draft(self, comparison: str, annotator: Annotator) -> None:
        """Forget the draft."""
        with self.store.write() as db:
            db.execute("DELETE FROM drafts WHERE comparison = ? AND annotator = ?", [comparison, annotator.id])

    def draft(self, comparison: str, annotator: Annotator) -> Draft | None:
        """The kept draft, or None."""
        row = self.row("SELECT * FROM drafts WHERE comparison = ? AND annotator = ?", comparison, annotator.id)
        return from_row(Draft, row) if row else None

    def _begun(self, annotator: Annotator, offer: Offer) -> Pick | None:
        """What of the offer the annotator has a draft of, or None."""
        rows = self.rows("SELECT comparison FROM drafts WHERE annotator = ? ORDER BY updated DESC", annotator.id)
        if not rows:
            return None
        offered = {one.comparison: one for one in offer.candidates}
        begun = next((offered[row["comparison"]] for row in rows if row["comparison"] in offered), None)
        return Pick(begun.comparison, begun.purpose) if begun else None
