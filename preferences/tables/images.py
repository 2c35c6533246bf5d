"""Pictures that prompts show."""

import json
from collections.abc import Iterable
from dataclasses import replace

from preferences.errors import UnknownName
from preferences.images import Image, names_in
from preferences.records import Study
from preferences.tables.table import Table, from_row, to_row


class Images(Table):
    """Each is stored once, under the hash of the file that it was made from."""

    def add(self, images: Iterable[Image]) -> int:
        """Store pictures; known ids are left alone. The number that was new."""
        now = self.store.clock()
        return self.insert("images", [to_row(replace(image, created=now)) for image in images], ignore=True)

    def shown_in(self, study: Study) -> frozenset[str]:
        """The ids of the stored pictures that the study's prompts show."""
        if not self.number("SELECT EXISTS (SELECT 1 FROM images)"):
            return frozenset()
        sql = (
            "SELECT messages FROM prompts WHERE messages LIKE '%](image:%' AND id IN (SELECT prompt FROM study_prompts "
            "WHERE study = :study UNION SELECT prompt FROM comparisons WHERE study = :study)"
        )
        prompts = self.store.db.execute(sql, {"study": study.id})
        named = {ident for (text,) in prompts for ident in names_in(json.loads(text))}
        stored = self.rows(
            "SELECT id FROM images WHERE id IN (SELECT value FROM json_each(?))", json.dumps(sorted(named))
        )
        return frozenset(row["id"] for row in stored)

    def get(self, ident: str) -> Image:
        """The picture of that id. Raises UnknownName."""
        row = self.row("SELECT * FROM images WHERE id = ?", ident)
        if row is None:
            raise UnknownName("There is no such image.")
        return from_row(Image, row)
