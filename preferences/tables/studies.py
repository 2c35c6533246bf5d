"""Studies: what is asked, of which prompts, answered by which policies."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from preferences.errors import NameTaken, RankloopError, UnknownName
from preferences.plan import Plan
from preferences.records import Annotator, ConsentText, Guideline, Policy, Prompt, Study, content_id
from preferences.tables.table import Table, from_row, to_row

MODES = ("ranking", "best-worst", "pairwise")
STATUSES = ("active", "paused", "closed")


class BadStudy(RankloopError):
    """A study cannot be as it was asked to be; the message has one sentence for each mistake."""


def check_study(name: str, k: int, mode: str) -> None:
    """Raises BadStudy unless a study can be like that."""
    mistakes = []
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > 200:
        mistakes.append("A study's name has 1 to 200 printable characters and no space at its ends.")
    if mode not in MODES:
        mistakes.append(f"A study's mode is one of {', '.join(MODES)}, not {mode!r}.")
    if not 2 <= k <= 9:
        mistakes.append(f"A study compares 2 to 9 responses at a time, not {k}.")
    elif mode == "pairwise" and k != 2:
        mistakes.append(f"A pairwise study compares 2 responses at a time, not {k}.")
    elif mode == "best-worst" and k < 6:
        mistakes.append(f"Best and worst are asked of 6 to 9 responses, not of {k}; choose mode ranking.")
    if mistakes:
        raise BadStudy(" ".join(mistakes))


class Studies(Table):
    """A study joins prompts and sampling policies to the annotators' queue."""

    def create(
        self, name: str, k: int = 4, plan: Mapping[str, Any] | None = None, mode: str = "ranking", actor: str = ""
    ) -> Study:
        """A new active study. Raises NameTaken, BadStudy, BadPlan."""
        check_study(name, k, mode)
        made = Plan.of(plan or {}).as_dict()
        study = Study(content_id("study", name), name, k, mode, made, created=self.store.clock())
        with self.store.write():
            if self.row("SELECT 1 FROM studies WHERE name = ?", name):
                raise NameTaken(f"There is a study named {name!r} already; choose another name.")
            self.insert("studies", [to_row(study)])
            self.store.events.add(actor, "study created", study.id, {"k": k, "mode": mode, "plan": study.plan})
        return study

    def edit(
        self, study: Study, k: int | None = None, mode: str | None = None, plan: Mapping[str, Any] | None = None,
        actor: str = "",
    ) -> Study:  # fmt: skip
        """The study with another K or mode, or some values of its plan changed. Raises BadStudy, BadPlan.

        K is that of comparisons still to be made. The mode stays once something has been ranked, since both kinds of
        answers in one study could not be told apart.
        """
        with self.store.write() as db:
            now = self.get(study.id)
            new = replace(
                now, k=k or now.k, mode=mode or now.mode, plan=Plan.of({**now.plan, **(plan or {})}).as_dict()
            )
            check_study(new.name, new.k, new.mode)
            if new.mode != now.mode and self.number("SELECT count(*) FROM tallies WHERE study = ?", study.id):
                raise BadStudy(
                    f"Study {now.name!r} has rankings, so its mode stays {now.mode!r}; create another study."
                )
            row = to_row(new)
            db.execute(
                "UPDATE studies SET k = ?, mode = ?, plan = ? WHERE id = ?", [new.k, new.mode, row["plan"], study.id]
            )
            if new.plan != now.plan:
                self.store.counters.recount(new)
            if new != now:
                detail = {"k": new.k, "mode": new.mode, "plan": new.plan}
                self.store.events.add(actor, "study edited", study.id, detail)
        return new

    def get(self, name: str) -> Study:
        """The study of that name or id. Raises UnknownName."""
        row = self.row("SELECT * FROM studies WHERE name = ? OR id = ?", name, name)
        if row is None:
            names = ", ".join(study.name for study in self.all()) or "none"
            raise UnknownName(f"There is no study {name!r} (there are: {names}).")
        return from_row(Study, row)

    def all(self) -> list[Study]:
        """Every study, oldest first."""
        return [from_row(Study, row) for row in self.rows("SELECT * FROM studies ORDER BY created, name")]

    def open_to(self, annotator: Annotator) -> list[Study]:
        """The studies, also those that are paused or closed, that the annotator may work in, oldest first."""
        sql = (
            "SELECT * FROM studies AS s WHERE NOT EXISTS (SELECT 1 FROM study_annotators WHERE study = s.id) OR EXISTS "
            "(SELECT 1 FROM study_annotators WHERE study = s.id AND annotator = ?) ORDER BY created, name"
        )
        return [from_row(Study, row) for row in self.rows(sql, annotator.id)]

    def annotators(self, study: Study) -> list[Annotator]:
        """Those to whom the study is limited, by name; none if everybody may work in it."""
        sql = (
            "SELECT a.* FROM annotators AS a JOIN study_annotators ON annotator = a.id WHERE study = ? ORDER BY a.name"
        )
        return [from_row(Annotator, row) for row in self.rows(sql, study.id)]

    def set_annotators(self, study: Study, annotators: Iterable[Annotator], actor: str = "") -> None:
        """Limit the study to those; to none: open it to everybody. What others hold of it they may finish."""
        wanted = sorted({annotator.id for annotator in annotators})
        with self.store.write() as db:
            if wanted == sorted(annotator.id for annotator in self.annotators(study)):
                return
            db.execute("DELETE FROM study_annotators WHERE study = ?", [study.id])
            self.insert("study_annotators", [{"study": study.id, "annotator": ident} for ident in wanted])
            self.store.events.add(actor, "study annotators", study.id, {"annotators": wanted})

    def default(self) -> Study:
        """The oldest active study; made with K=4 if there is none at all."""
        found = self._oldest_active()
        if found:
            return found
        with self.store.write():  # not for every reader: a writer waits for its turn
            return self._oldest_active() or self.create("default")

    def _oldest_active(self) -> Study | None:
        """The oldest active study, else the oldest one, or None."""
        studies = self.all()
        active = [study for study in studies if study.status == "active"]
        return next(iter(active or studies), None)

    def set_status(self, study: Study, status: str, actor: str = "") -> Study:
        """The study as active, paused or closed."""
        assert status in STATUSES, f"A status is one of {STATUSES}, not {status!r}."
        with self.store.write() as db:
            self.store.events.add(actor, f"study {status}", study.id, {})
            db.execute("UPDATE studies SET status = ? WHERE id = ?", [status, study.id])
        return replace(study, status=status)  # type: ignore[arg-type]

    def add_prompts(self, study: Study, prompts: Iterable[Prompt | str]) -> int:
        """Put prompts (or their ids) into the study; the number that was new to it."""
        idents = [prompt if isinstance(prompt, str) else prompt.id for prompt in prompts]
        rows = [{"study": study.id, "prompt": ident} for ident in idents]
        return self.insert("study_prompts", rows, ignore=True)

    def count_prompts(self, study: Study) -> tuple[int, int]:
        """How many prompts the study has, and how many of them are held out."""
        sql = (
            "SELECT count(*) AS prompts, coalesce(sum(split = 'heldout'), 0) AS heldout "
            "FROM study_prompts JOIN prompts ON prompts.id = prompt WHERE study = ?"
        )
        (row,) = self.rows(sql, study.id)
        return row["prompts"], row["heldout"]

    def sampling_policies(self, study: Study) -> list[Policy]:
        """The policies that answer this study's prompts now, oldest first."""
        sql = (
            "SELECT policies.* FROM policies JOIN study_policies ON policy = policies.id "
            "WHERE study = ? AND until IS NULL ORDER BY since, study_policies.id"
        )
        return [from_row(Policy, row) for row in self.rows(sql, study.id)]

    def set_sampling_policies(
        self, study: Study, policies: list[Policy], actor: str = "", kind: str = "sampling policies", reason: str = ""
    ) -> None:
        """From now on `policies` answer this study's prompts; earlier choices stay on record."""
        now = self.store.clock()
        detail = {"policies": [policy.id for policy in policies], **({"reason": reason} if reason else {})}
        with self.store.write() as db:
            db.execute("UPDATE study_policies SET until = ? WHERE study = ? AND until IS NULL", [now, study.id])
            self.insert(
                "study_policies", [{"study": study.id, "policy": policy.id, "since": now} for policy in policies]
            )
            self.store.events.add(actor, kind, study.id, detail)
            self.store.promotions.put_off(study)

    def set_guideline(self, study: Study, text: str, actor: str = "") -> Guideline:
        """A new version of the instructions; an unchanged text keeps its version."""
        with self.store.write():
            current = self.guideline(study)
            if current and current.text == text:
                return current
            version = current.version + 1 if current else 1
            made = Guideline(
                content_id("guideline", study.id, version, text), study.id, version, text, self.store.clock()
            )
            self.insert("guidelines", [to_row(made)])
            self.store.events.add(actor, "guidelines", study.id, {"version": version})
        return made

    def guideline(self, study: Study, version: int | None = None) -> Guideline | None:
        """The newest instructions (or those of that version), or None."""
        sql = "SELECT * FROM guidelines WHERE study = ? AND (? IS NULL OR version = ?) ORDER BY version DESC LIMIT 1"
        row = self.row(sql, study.id, version, version)
        return from_row(Guideline, row) if row else None

    def guidelines(self, study: Study) -> list[Guideline]:
        """Every version of the instructions, oldest first."""
        rows = self.rows("SELECT * FROM guidelines WHERE study = ? ORDER BY version", study.id)
        return [from_row(Guideline, row) for row in rows]

    def set_consent(self, study: Study, text: str, actor: str = "") -> ConsentText:
        """A new version of what annotators agree to; an unchanged text keeps its version."""
        with self.store.write():
            current = self.consent(study)
            if current and current.text == text:
                return current
            # Not the current one's: where an empty text ended the asking, there is none.
            version = 1 + self.number("SELECT coalesce(max(version), 0) FROM consent_texts WHERE study = ?", study.id)
            ident = content_id("consent", study.id, version, text)
            made = ConsentText(ident, study.id, version, text, self.store.clock())
            self.insert("consent_texts", [to_row(made)])
            self.store.events.add(actor, "consent text", study.id, {"version": version})
        return made

    def consent(self, study: Study) -> ConsentText | None:
        """What annotators agree to now, or None if they are not asked."""
        row = self.row("SELECT * FROM consent_texts WHERE study = ? ORDER BY version DESC LIMIT 1", study.id)
        return from_row(ConsentText, row) if row and row["text"] else None

    def prompts_without_comparison(self, study: Study, limit: int, split: str | None = None) -> list[Prompt]:
        """Prompts of the study that no comparison of its current sampling policies asks about, oldest first."""
        return [prompt for prompt, asked in self._asked(study) if not asked and split in (None, prompt.split)][:limit]

    def least_compared_prompts(self, study: Study, limit: int) -> list[Prompt]:
        """Prompts of the study, those with the fewest comparisons of its current sampling policies first."""
        return [prompt for prompt, _ in sorted(self._asked(study), key=lambda pair: pair[1])][:limit]

    def _asked(self, study: Study) -> list[tuple[Prompt, int]]:
        """The study's prompts, oldest first, and how many comparisons of its current sampling policies ask about each."""
        policies = json.dumps([policy.id for policy in self.sampling_policies(study)])
        sql = (
            "SELECT prompts.*, (SELECT count(DISTINCT c.id) FROM comparisons AS c"
            "  JOIN comparison_responses AS cr ON cr.comparison = c.id JOIN responses AS r ON r.id = cr.response"
            "  WHERE c.study = :study AND c.prompt = prompts.id"
            "  AND r.policy IN (SELECT value FROM json_each(:policies))) AS asked "
            "FROM study_prompts JOIN prompts ON prompts.id = prompt WHERE study_prompts.study = :study "
            "ORDER BY prompts.created, prompts.rowid"
        )
        rows = self.store.db.query(sql, {"study": study.id, "policies": policies})
        return [(from_row(Prompt, row), row["asked"]) for row in rows]
