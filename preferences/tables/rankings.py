"""Rankings: append-only acts of annotators. An edit supersedes; an undo is a withdrawal that supersedes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from preferences.answers import (
    check_flags,
    check_mode,
    check_ratings,
    check_rewrite,
    check_strengths,
    mode_of,
    options_of,
)
from preferences.errors import NonceUsed, NothingToUndo, NotLeased, UnknownName
from preferences.rankings import ALL_BAD, check_tiers
from preferences.records import (
    LABELS,
    Annotator,
    Comparison,
    Lease,
    Mode,
    Purpose,
    Ranking,
    RankingKind,
    Study,
    Tiers,
    Verdict,
    content_id,
    random_id,
)
from preferences.tables.table import Table, from_row, to_row

# Oldest first is in the order of `line`, of storing: times can be equal.
CURRENT = "SELECT r.*, r.shown AS 'order' FROM current_rankings AS r "
STANDING = CURRENT.replace("current_rankings", "standing_rankings")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an annotator sends for a leased comparison; `nonce` is made once by the page, so that a retry is known.

    The fields are those of Ranking; `mode`: None is the one that the comparison is asked about in; `all_bad`: no response
    is acceptable, which is an answer without an order.
    """

    comparison: str
    lease: str
    nonce: str
    tiers: Tiers = field(default_factory=list)
    active_ms: int = 0
    reason: str = ""
    strengths: list[int] = field(default_factory=list)
    flags: dict[str, list[str]] = field(default_factory=dict)
    ratings: dict[str, int] = field(default_factory=dict)
    rewrite: str = ""
    rewrite_of: str = ""
    mode: Mode | None = None
    verdict: Verdict = ""
    all_bad: bool = False

    def checked(self, comparison: Comparison, study: Study, kind: RankingKind) -> "Answer":
        """The answer with its mode. Raises BadTiers, BadAnswer unless it fits the comparison and the study."""
        options = options_of(study.plan)
        check_flags(self.flags, comparison.items, options["flags"])
        check_ratings(self.ratings, comparison.items, options["rating"])
        without_order = replace(self, tiers=[], strengths=[], rewrite="", rewrite_of="", mode="ranking")
        if kind == "skip":
            return without_order
        if self.all_bad:
            flags = {**self.flags, ALL_BAD: [ALL_BAD]}
            return replace(without_order, tiers=[list(comparison.items)], flags=flags, verdict="")
        check_tiers(self.tiers, comparison.items)
        asked = mode_of(study.mode, len(comparison.items))
        # Whoever ranks more than the best and the worst gives a ranking; only a page says that they did not.
        mode = self.mode or ("ranking" if asked == "best-worst" else asked)
        check_mode(mode, asked, self.tiers)
        check_strengths(self.strengths, mode, self.tiers, options["strengths"])
        check_rewrite(self.rewrite_of, self.rewrite, self.tiers[0])
        return replace(self, mode=mode, verdict="")


class Rankings(Table):
    """Every act is one row for ever; `current_rankings` is the view of those that nothing supersedes."""

    def submit(self, annotator: Annotator, answer: Answer) -> Ranking:
        """Store a full ranking and end its lease. Raises NonceUsed, NotLeased, BadTiers; then nothing is stored."""
        return self._answer(annotator, answer, "ranking")

    def skip(self, annotator: Annotator, answer: Answer) -> Ranking:
        """Store that the annotator declines to rank, and why. Raises NonceUsed, NotLeased."""
        return self._answer(annotator, answer, "skip")

    def undo(self, annotator: Annotator, nonce: str, seconds: float) -> tuple[Ranking, Lease]:
        """Withdraw the annotator's newest ranking or skip and lease its comparison to them again, in the same order.

        Whatever they had open is given back. Raises NonceUsed; NothingToUndo, also if the answer did not count and others
        have taken its place.
        """
        with self.store.write():
            self._check_nonce(annotator, nonce)
            newest = self.history(annotator, limit=1)
            if not newest:
                raise NothingToUndo("There is nothing to undo.")
            last = newest[0]
            had_place = self._counts(last)
            withdrawal = Ranking(
                random_id(), last.comparison, annotator.id, "withdrawal", [], last.order, nonce,
                supersedes=last.id, created=self.store.clock(), purpose=last.purpose,
            )  # fmt: skip
            self._insert(withdrawal)
            return last, self._lease_again(annotator, last, seconds, had_place)

    def reopen(self, annotator: Annotator, ranking: str, seconds: float) -> Lease:
        """Lease the comparison of a standing answer to its annotator again, in the same order, as they left it.

        The answer stays until another one supersedes it. Raises UnknownName unless it stands and is theirs, NothingToUndo if
        it does not count and others have taken its place.
        """
        with self.store.write():
            found = self.get(annotator, ranking)
            self.store.events.add(annotator.id, "reopened", found.comparison, {"ranking": found.id})
            return self._lease_again(annotator, found, seconds, self._counts(found))

    def get(self, annotator: Annotator, ranking: str) -> Ranking:
        """The annotator's own answer of that id, if it stands. Raises UnknownName."""
        row = self.row(STANDING + "WHERE r.id = ? AND r.annotator = ?", ranking, annotator.id)
        if row is None:
            raise UnknownName("This is not one of your answers, or no longer; load the history again.")
        return from_row(Ranking, row)

    def of_nonce(self, annotator: Annotator, nonce: str) -> str | None:
        """The id of the row that the annotator's submission of that nonce made, or None."""
        row = self.row("SELECT id FROM rankings WHERE annotator = ? AND nonce = ?", annotator.id, nonce)
        return row["id"] if row else None

    def add_imported(
        self, annotator: Annotator, comparison: Comparison, tiers: Tiers, order: Sequence[str] = (), **details: Any
    ) -> tuple[int, int]:
        """Store a ranking made elsewhere, once. (1 if it was new else 0, 1 if it replaced another one). Raises BadTiers.

        It replaces the annotator's earlier act on the comparison, unless that one says the same. `details`: further
        fields of Ranking; with a `verdict` it is a refusal to rank, without tiers.
        """
        kind: RankingKind = "skip" if details.get("verdict") else "ranking"
        if kind == "ranking":
            check_tiers(tiers, comparison.items)
        extra = {name: value for name, value in details.items() if value not in ("", [], {}, 0, None)}
        nonce = content_id("imported", comparison.id, annotator.id, tiers, *([extra] if extra else []))
        with self.store.write():
            earlier = self.of_comparison(annotator, comparison.id)
            made = Ranking(
                random_id(), comparison.id, annotator.id, kind, tiers, list(order) or comparison.items, nonce,
                supersedes=earlier.id if earlier else None, **{"created": self.store.clock(), **details},
            )  # fmt: skip
            if self.of_nonce(annotator, nonce) or (earlier and says_the_same(earlier, made)):
                return 0, 0
            self._insert(made)
        return 1, int(earlier is not None)

    def of_comparison(self, annotator: Annotator, comparison: str, purpose: Purpose = "label") -> Ranking | None:
        """The annotator's own answer to the comparison, whether or not it counts, or None.

        It is what another answer for that purpose replaces: the answer to a repeat stands apart from the others.
        """
        sql = STANDING + "WHERE r.comparison = ? AND r.annotator = ? AND (r.purpose = 'repeat') = (? = 'repeat')"
        row = self.row(sql, comparison, annotator.id, purpose)
        return from_row(Ranking, row) if row else None

    def current(
        self, study: str | None = None, split: str | None = None, simulated: bool = False,
        purposes: Sequence[Purpose] = LABELS,
    ) -> list[Ranking]:  # fmt: skip
        """Full rankings that count, oldest first, of one study (its id) or split if given.

        Those of simulated annotators only if `simulated`; by default labels only, no repeats and no gold. What does not
        count: what was superseded, is by an annotator whose rankings are excluded, or was ranked under instructions that
        the study has left behind.
        """
        sql = CURRENT + (
            "JOIN comparisons AS c ON c.id = r.comparison JOIN prompts AS p ON p.id = c.prompt "
            "JOIN annotators AS a ON a.id = r.annotator "
            "WHERE r.kind = 'ranking' AND (:study IS NULL OR c.study = :study) "
            "AND (:split IS NULL OR p.split = :split) AND (:simulated OR NOT a.simulated) "
            "AND r.purpose IN (SELECT value FROM json_each(:purposes)) ORDER BY r.line"
        )
        parameters = {"study": study, "split": split, "simulated": int(simulated), "purposes": json.dumps(purposes)}
        return [from_row(Ranking, row) for row in self.store.db.query(sql, parameters)]

    def by_comparison(self, idents: Sequence[str], simulated: bool = False) -> dict[str, list[Ranking]]:
        """Comparison -> its current labels, oldest first; those of simulated annotators only if `simulated`."""
        sql = CURRENT + (
            "JOIN annotators AS a ON a.id = r.annotator WHERE r.comparison IN (SELECT value FROM json_each(?)) "
            f"AND r.kind = 'ranking' AND r.purpose IN {LABELS} AND (? OR NOT a.simulated) ORDER BY r.line"
        )
        found: dict[str, list[Ranking]] = {ident: [] for ident in idents}
        for row in self.rows(sql, json.dumps(list(idents)), int(simulated)):
            found[row["comparison"]].append(from_row(Ranking, row))
        return found

    def history(self, annotator: Annotator, limit: int = 50, offset: int = 0) -> list[Ranking]:
        """What the annotator has ranked and skipped and not taken back, newest first, whether or not it counts.

        Without the `offset` newest.
        """
        sql = STANDING + "WHERE r.annotator = ? ORDER BY r.line DESC LIMIT ? OFFSET ?"
        return [from_row(Ranking, row) for row in self.rows(sql, annotator.id, limit, offset)]

    def progress(self, annotator: Annotator, studies: Sequence[Study], since: float) -> dict[str, int]:
        """{"mine", "mine_today", "team", "waiting"}.

        What this annotator has ranked (ever; since that time) and what all have in those studies, repeats and gold
        included, so that nobody can tell these by the numbers; comparisons that still want a label there.
        """
        today = "SELECT count(*) FROM standing_rankings WHERE kind = 'ranking' AND annotator = ? AND created >= ?"
        mine = "SELECT coalesce(sum(rankings), 0) FROM tallies WHERE annotator = ?"
        return {
            "mine": self.number(mine, annotator.id),
            "mine_today": self.number(today, annotator.id, since),
            "team": sum(map(self.store.queue.team, studies)),
            "waiting": sum(map(self.store.queue.waiting, studies)),
        }

    def _answer(self, annotator: Annotator, answer: Answer, kind: RankingKind) -> Ranking:
        with self.store.write():
            self._check_nonce(annotator, answer.nonce)
            lease = self.store.queue.check(answer.lease, annotator.id, answer.comparison)
            comparison = self.store.comparisons.get(answer.comparison)
            study = self.store.studies.get(comparison.study)
            answer = answer.checked(comparison, study, kind)
            if kind == "ranking" and not self.store.queue.has_place(comparison.id, annotator, lease.purpose):
                raise NotLeased(
                    "Others have ranked this comparison meanwhile; load the page again to get the next one."
                )
            guideline = self.store.studies.guideline(study)
            earlier = self.of_comparison(annotator, comparison.id, lease.purpose)
            made = Ranking(
                random_id(), comparison.id, annotator.id, kind, answer.tiers, lease.order, answer.nonce, answer.active_ms,
                answer.strengths, answer.flags, answer.reason, answer.rewrite, guideline.id if guideline else None,
                earlier.id if earlier else None, self.store.clock(), purpose=lease.purpose, mode=answer.mode or "ranking",
                verdict=answer.verdict, ratings=answer.ratings, rewrite_of=answer.rewrite_of or None,
            )  # fmt: skip
            self._insert(made)
            if kind == "ranking" and made.tiers == [[item] for item in made.order]:
                # Nothing is ranked beforehand, but whoever often keeps the order may not be reading.
                self.store.events.add(annotator.id, "order as shown", comparison.id, {"ranking": made.id})
            self.store.queue.release(lease)
            self.store.queue.drop_draft(comparison.id, annotator)
        return made

    def _lease_again(self, annotator: Annotator, ranking: Ranking, seconds: float, has_place: bool) -> Lease:
        """The comparison as its answer left it; whatever else the annotator had open is given back, its draft kept.

        `has_place`: whether the answer counts as a label, or did until it was withdrawn just now. Raises NothingToUndo if
        another answer to it would be one too many.
        """
        queue = self.store.queue
        if ranking.purpose in LABELS and not (
            queue.has_place(ranking.comparison, annotator, ranking.purpose)
            and (has_place or queue.has_room(ranking.comparison, annotator))
        ):
            raise NothingToUndo("Others have taken this comparison since; it cannot come back to you.")
        for held in queue.all_held(annotator):
            queue.release(held)
        queue.save_draft(ranking.comparison, annotator, draft_of(ranking))
        return queue.lease(ranking.comparison, annotator, ranking.order, seconds, ranking.purpose)

    def _counts(self, ranking: Ranking) -> bool:
        """Whether it is a ranking that is neither outdated nor by an annotator who is excluded."""
        sql = "SELECT 1 FROM current_rankings WHERE id = ? AND kind = 'ranking'"
        return self.row(sql, ranking.id) is not None

    def is_edit(self, annotator: Annotator, lease: Lease) -> bool:
        """Whether what is leased is an answer of theirs that counts on, and not one that is asked for again."""
        earlier = self.of_comparison(annotator, lease.comparison, lease.purpose)
        return earlier is not None and self.row("SELECT 1 FROM outdated WHERE ranking = ?", earlier.id) is None

    def _insert(self, ranking: Ranking) -> None:
        row = to_row(ranking)
        row["shown"] = row.pop("order")
        self.insert("rankings", [row])
        self.store.counters.note(ranking)
        detail = {"ranking": ranking.id, "supersedes": ranking.supersedes}
        self.store.events.add(ranking.annotator, ranking.kind, ranking.comparison, detail)

    def _check_nonce(self, annotator: Annotator, nonce: str) -> None:
        saved = self.of_nonce(annotator, nonce)
        if saved:
            raise NonceUsed("This answer was saved already; nothing was stored a second time.", saved)


def says_the_same(one: Ranking, other: Ranking) -> bool:
    """Whether two acts are the same answer, whoever gave it and when."""

    def answer(ranking: Ranking) -> tuple[Any, ...]:
        tiers = [sorted(tier) for tier in ranking.tiers]
        rest = (ranking.strengths, ranking.flags, ranking.ratings, ranking.reason, ranking.rewrite)
        return ranking.kind, ranking.verdict, ranking.mode, tiers, *rest

    return answer(one) == answer(other)


def draft_of(ranking: Ranking) -> dict[str, Any]:
    """What a draft of that answer would have been."""
    all_bad = ALL_BAD in ranking.flags
    said = {
        "strengths": ranking.strengths,
        "flags": {item: names for item, names in ranking.flags.items() if item != ALL_BAD},
        "ratings": ranking.ratings,
        "reason": ranking.reason if ranking.kind == "ranking" else "",
        "mode": "" if ranking.mode == "ranking" else ranking.mode,
        "rewrite": ranking.rewrite,
        "rewrite_of": ranking.rewrite_of,
    }
    return {"tiers": [] if all_bad else ranking.tiers} | {name: value for name, value in said.items() if value}
