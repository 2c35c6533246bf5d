"""Sampled answers; each distinct text is stored once."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from preferences.records import Policy, Response, Study, content_id
from preferences.tables.table import Table, from_row, to_row

SELECT = (
    "SELECT r.id, prompt, policy, texts.text AS text, seed, sample_index, temperature, top_p, max_new_tokens, "
    "finish_reason, tokens, template_hash, created FROM responses AS r JOIN texts ON texts.id = r.text "
)


class Responses(Table):
    """Append-only."""

    def add(self, responses: Iterable[Response], provenance: Mapping[str, dict[str, Any]] | None = None) -> int:
        """Store responses; known ids are left alone. The number that was new.

        `provenance`: of those that a server gave, which request of it did, by their ids; {} is as none.
        """
        responses = list(responses)
        now = self.store.clock()
        with self.store.write():
            texts = {content_id("text", response.text): response.text for response in responses}
            self.insert("texts", [{"id": ident, "text": text} for ident, text in texts.items()], ignore=True)
            rows = [
                {**to_row(response), "text": content_id("text", response.text), "created": response.created or now}
                for response in responses
            ]
            new = self.insert("responses", rows, ignore=True)
            said = [
                {"response": ident, "document": json.dumps(document, ensure_ascii=False)}
                for ident, document in (provenance or {}).items()
                if document
            ]
            self.insert("provenance", said, ignore=True)
        return new

    def provenance(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What is known of the requests that gave these responses, of those that a server gave."""
        sql = "SELECT * FROM provenance WHERE response IN (SELECT value FROM json_each(?))"
        return {row["response"]: json.loads(row["document"]) for row in self.rows(sql, json.dumps(list(ids)))}

    def get_many(self, ids: Iterable[str]) -> dict[str, Response]:
        """Responses by id."""
        rows = self.rows(SELECT + "WHERE r.id IN (SELECT value FROM json_each(?))", json.dumps(list(ids)))
        return {row["id"]: from_row(Response, row) for row in rows}

    def of_prompt(self, prompt: str, policy: str | None = None) -> list[Response]:
        """The answers to one prompt (by one policy), in order of sampling."""
        sql = SELECT + "WHERE prompt = ? AND (? IS NULL OR policy = ?) ORDER BY created, seed, sample_index"
        return [from_row(Response, row) for row in self.rows(sql, prompt, policy, policy)]

    def of_policy(self, policy: str) -> list[Response]:
        """All answers of one policy, in order of sampling."""
        rows = self.rows(SELECT + "WHERE policy = ? ORDER BY created, prompt, sample_index", policy)
        return [from_row(Response, row) for row in rows]

    def newest(self, study: Study, policy: Policy, most: int) -> list[Response]:
        """At most so many of a policy's answers to the study's prompts, the newest first."""
        sql = SELECT + (
            "WHERE policy = ? AND prompt IN (SELECT prompt FROM study_prompts WHERE study = ?) "
            "ORDER BY created DESC, r.rowid DESC LIMIT ?"
        )
        return [from_row(Response, row) for row in self.rows(sql, policy.id, study.id, most)]

    def samplers(self) -> dict[str, list[dict[str, Any]]]:
        """Policy -> how its answers were drawn: {"temperature", "top_p", "max_new_tokens", "responses"} of each way."""
        sql = (
            "SELECT policy, temperature, top_p, max_new_tokens, count(*) AS responses FROM responses "
            "GROUP BY policy, temperature, top_p, max_new_tokens ORDER BY responses DESC"
        )
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows(sql):
            found.setdefault(row.pop("policy"), []).append(row)
        return found
