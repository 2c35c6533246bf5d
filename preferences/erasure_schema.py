"""What migration m011 makes: people can be erased. Never edit it, like all that has landed."""

ERASURE = (
    # A row lets the annotator's rankings in that study be deleted, and nobody else's.
    """CREATE TABLE erasures (
        study TEXT NOT NULL REFERENCES studies(id), annotator TEXT NOT NULL REFERENCES annotators(id),
        at REAL NOT NULL, PRIMARY KEY (annotator, study)) STRICT, WITHOUT ROWID""",
    "ALTER TABLE annotators ADD COLUMN erased REAL",  # since when the account is a tombstone
    "DROP TRIGGER rankings_no_delete",
    """CREATE TRIGGER rankings_no_delete BEFORE DELETE ON rankings
        WHEN NOT EXISTS (SELECT 1 FROM erasures AS e CROSS JOIN comparisons AS c ON c.study = e.study
            WHERE e.annotator = OLD.annotator AND c.id = OLD.comparison)
        BEGIN SELECT RAISE(ABORT, 'rankings is append-only'); END""",
)
