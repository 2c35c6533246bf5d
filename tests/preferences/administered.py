"""What may happen to a study in any order, whether annotators come to the store or through the API."""

from typing import Any

from preferences.errors import NameTaken
from preferences.records import Annotator, Study
from preferences.store import Store
from tests.preferences.truth import Overlap, Truth


class Administered:
    """One study and its people. For state machines, which make rules of what admins do here."""

    store: Store
    study: Study
    people: list[Annotator]
    overlap: Overlap
    nonces: int

    def nonce(self) -> str:
        self.nonces += 1
        return f"nonce-{self.nonces:06}"

    def truth(self) -> Truth:
        return Truth(self.store, self.study)

    def exclude_or_lift(self, seat: int) -> None:
        try:
            self.store.exclusions.exclude(self.study, self.people[seat], "at random")
        except NameTaken:
            self.store.exclusions.lift(self.study, self.people[seat])
            self.overlap.admit(self.truth())

    def change_the_plan(self, plan: dict[str, Any]) -> None:
        self.study = self.store.studies.edit(self.study, plan=plan)
        self.overlap.admit(self.truth())
