"""What the tables say, worked out from their rows alone: what the store counts and selects is held against it."""

import json
from collections import Counter
from typing import Any

from preferences.plan import Plan, labels_wanted
from preferences.rankings import top_splits
from preferences.records import EQUAL, LABELS, Study
from preferences.store import Store

Row = dict[str, Any]
Place = tuple[str, str, bool]  # a comparison, a purpose, of simulated annotators


class Truth:
    """Of one moment, and one study."""

    def __init__(self, store: Store, study: Study) -> None:
        self.store, self.study = store, store.studies.get(study.id)
        self.plan = Plan.of(self.study.plan)
        self.now = store.clock()
        self.acts = self.rows("SELECT rowid AS line, * FROM rankings ORDER BY rowid")
        self.leases = self.rows("SELECT * FROM leases ORDER BY rowid")
        self.simulated = {row["id"]: bool(row["simulated"]) for row in self.rows("SELECT * FROM annotators")}
        self.comparisons = {
            row["id"]: row
            for row in self.rows("SELECT c.*, p.split FROM comparisons AS c JOIN prompts AS p ON p.id = c.prompt")
        }
        self.golds = {row["comparison"] for row in self.rows("SELECT comparison FROM golds")}
        replaced = {act["supersedes"] for act in self.acts}
        self.standing = [act for act in self.acts if act["kind"] != "withdrawal" and act["id"] not in replaced]
        outdated = {row["ranking"] for row in self.rows("SELECT ranking FROM outdated")}
        excluded = {row["annotator"] for row in self.rows("SELECT annotator FROM exclusions WHERE lifted IS NULL")}
        self.counting = [act for act in self.standing if act["id"] not in outdated and act["annotator"] not in excluded]

    def rows(self, sql: str) -> list[Row]:
        """What a query gives; only those of whole tables are asked."""
        return self.store.queue.rows(sql)

    def labels(self, comparison: str, simulated: bool = False) -> list[Row]:
        """The labels that count, of people or of simulated annotators, oldest first."""
        return [
            act
            for act in self.counting
            if act["comparison"] == comparison
            and act["kind"] == "ranking"
            and act["purpose"] in LABELS
            and self.simulated[act["annotator"]] == simulated
        ]

    def wanted(self, comparison: str) -> int:
        """How many people should rank it, by the plan."""
        row = self.comparisons[comparison]
        if comparison in self.golds or row["origin"] == EQUAL:
            return 0
        return labels_wanted(self.plan, comparison, row["split"], row["asked_by"] is not None)

    def extra(self, comparison: str) -> int:
        """Whether its labels are complete, and split over the best response, so that one more is wanted."""
        tiers = [json.loads(act["tiers"]) for act in self.labels(comparison) if act["purpose"] == "label"]
        complete = len(tiers) >= self.wanted(comparison) > 1
        return int(complete and self.plan.adjudicate and top_splits(tiers))

    def counts(self) -> Counter[Place]:
        """How many labels each comparison has, for each purpose."""
        return Counter(
            (comparison, act["purpose"], simulated)
            for comparison in self.comparisons
            for simulated in (False, True)
            for act in self.labels(comparison, simulated)
        )

    def most(self, place: Place) -> int:
        """How many labels are wanted of that purpose."""
        comparison, purpose, _ = place
        return 1 if purpose == "adjudication" else self.wanted(comparison)

    def is_open(self, lease: str, annotator: str, comparison: str) -> bool:
        """Whether that lease is theirs, on that comparison, and open."""
        return any(
            (row["id"], row["annotator"], row["comparison"]) == (lease, annotator, comparison)
            for row in self.open_leases()
        )

    def open_leases(self) -> list[Row]:
        """Those that have neither been given back nor run out."""
        return [row for row in self.leases if row["released"] is None and row["expires"] > self.now]

    def has_place(self, comparison: str, annotator: str, purpose: str) -> bool:
        """Whether an answer of theirs for that purpose would not be one too many."""
        simulated = self.simulated[annotator]
        given = self.labels(comparison, simulated)
        place = (comparison, purpose, simulated)
        return (
            purpose not in LABELS
            or annotator in {act["annotator"] for act in given}
            or sum(act["purpose"] == purpose for act in given) < self.most(place)
        )

    def counts_now(self, ranking: str) -> bool:
        """Whether it is a label that counts."""
        return any(ranking == act["id"] for comparison in self.comparisons for act in self.labels(comparison))

    # -- what must hold whatever has happened -------------------------------------------------------------------------

    def check_chains(self) -> None:
        """Each act replaces at most one earlier one, of the same annotator on the same comparison; at most one stands."""
        by_id = {act["id"]: act for act in self.acts}
        replaced = [act["supersedes"] for act in self.acts if act["supersedes"]]
        assert len(replaced) == len(set(replaced))
        for act in self.acts:
            before = by_id.get(act["supersedes"])
            if before is None:
                assert act["supersedes"] is None and act["kind"] != "withdrawal"
                continue
            assert before["line"] < act["line"] and before["kind"] != "withdrawal"
            assert (before["annotator"], before["comparison"]) == (act["annotator"], act["comparison"])
        answers = [(act["annotator"], act["comparison"], act["purpose"] == "repeat") for act in self.standing]
        assert len(answers) == len(set(answers))

    def check_leases(self) -> None:
        """Whoever answered (with a nonce of these tests: the others were imported) was given the comparison."""
        given = {(row["annotator"], row["comparison"]) for row in self.leases}
        answers = [act for act in self.acts if act["kind"] != "withdrawal" and act["nonce"].startswith("nonce")]
        assert {(act["annotator"], act["comparison"]) for act in answers} <= given

    def check_counts(self) -> None:
        """What is kept as a number is what counting gives."""
        comparisons, study = self.comparisons.values(), self.study
        for row in comparisons:
            ident = row["id"]
            kept = (row["labels"], row["labels_simulated"], row["wanted"], row["extra"])
            assert kept == (
                len(self.labels(ident)),
                len(self.labels(ident, simulated=True)),
                self.wanted(ident),
                self.extra(ident),
            )
        room = {row["id"]: row["labels"] < row["wanted"] + row["extra"] for row in comparisons}
        assert self.store.queue.number("SELECT open FROM studies WHERE id = ?", study.id) == sum(room.values())
        assert self.store.queue.waiting(study) == sum(
            room[row["id"]] and row["labels"] + len(self.holders(row["id"])) < row["wanted"] + row["extra"]
            for row in comparisons
        )
        kept_tallies = {row["annotator"]: row["rankings"] for row in self.rows("SELECT * FROM tallies")}
        ranked = Counter(act["annotator"] for act in self.standing if act["kind"] == "ranking")
        assert {ident: count for ident, count in kept_tallies.items() if count} == ranked
        counted = self.store.counts.all()
        kinds = Counter(act["kind"] for act in self.counting)
        assert (counted["rankings"], counted["skips"]) == (kinds["ranking"], kinds["skip"])
        labels = sorted((act for ident in self.comparisons for act in self.labels(ident)), key=lambda act: act["line"])
        assert [ranking.id for ranking in self.store.rankings.current(study.id)] == [act["id"] for act in labels]

    def holders(self, comparison: str) -> set[str]:
        """People who have it in hand, to give a label."""
        return {
            row["annotator"]
            for row in self.open_leases()
            if row["comparison"] == comparison and row["purpose"] in LABELS and not self.simulated[row["annotator"]]
        }

    def check_repeats(self) -> None:
        """Only who has ranked a comparison is asked again, and only once."""
        stands = {
            (act["annotator"], act["comparison"], act["purpose"] == "repeat")
            for act in self.standing
            if act["kind"] == "ranking"
        }
        for row in self.rows("SELECT * FROM repeats_due"):
            assert (row["annotator"], row["comparison"], False) in stands
            assert (row["annotator"], row["comparison"], True) not in stands

    def check(self) -> None:
        """All of it, and what SQLite watches by itself."""
        self.check_chains()
        self.check_leases()
        self.check_counts()
        self.check_repeats()
        assert self.store.db.execute("PRAGMA foreign_key_check").fetchall() == []


class Overlap:
    """No comparison has more labels than are wanted, but for those that an admin's act has left it with.

    Such acts: an exclusion is lifted, the plan wants fewer, gold is made of it, rankings are imported.
    """

    def __init__(self) -> None:
        self.left: dict[Place, int] = {}

    def admit(self, truth: Truth) -> None:
        """An admin has acted."""
        self.left = dict(truth.counts())

    def check(self, truth: Truth) -> None:
        """Also: what is over and goes does not come back."""
        counts = truth.counts()
        for place, count in counts.items():
            assert count <= max(truth.most(place), self.left.get(place, 0)), place
        self.left = {place: min(count, counts[place]) for place, count in self.left.items()}
