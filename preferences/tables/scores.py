"""What reward models say of stored responses, kept so that pages can be drawn without the models."""

import json
from collections.abc import Iterable, Mapping

from preferences.tables.table import Table


class Scores(Table):
    """A score a response and reward model; `reward`: the folder of its adapter."""

    def add(self, reward: str, scores: Mapping[str, float]) -> int:
        """Keep scores by response; those that are kept already stay. The number that was new."""
        now = self.store.clock()
        rows = [
            {"response": response, "reward": reward, "score": score, "created": now}
            for response, score in scores.items()
        ]
        return self.insert("scores", rows, ignore=True)

    def of(self, reward: str, responses: Iterable[str]) -> dict[str, float]:
        """The scores that are kept of those responses."""
        sql = "SELECT response, score FROM scores WHERE reward = ? AND response IN (SELECT value FROM json_each(?))"
        return dict(self.store.db.conn.execute(sql, [reward, json.dumps(list(responses))]).fetchall())

    def rewards(self) -> list[tuple[str, int, float]]:
        """(reward model, responses that it has scored, when it did last), the one that did last first."""
        sql = "SELECT reward, count(*), max(created) FROM scores GROUP BY reward ORDER BY max(created) DESC, reward"
        found: list[tuple[str, int, float]] = self.store.db.conn.execute(sql).fetchall()
        return found
