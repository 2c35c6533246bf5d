"""What migrations m013 to m015 make: workers, runs, tokens, which request gave an answer.

Never edit it, like all that has landed."""

WORKERS_AND_RUNS = (
    """CREATE TABLE workers (
        name TEXT PRIMARY KEY, about TEXT NOT NULL, started REAL NOT NULL, seen REAL NOT NULL) STRICT, WITHOUT ROWID""",
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, stage TEXT NOT NULL, folder TEXT NOT NULL, study TEXT REFERENCES studies(id),
        document TEXT NOT NULL, updated REAL NOT NULL) STRICT""",
    "CREATE INDEX events_by_subject ON events (subject, kind)",
)

WORKER_TOKENS = (
    """CREATE TABLE worker_tokens (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, token_hash TEXT NOT NULL UNIQUE, created REAL NOT NULL,
        used REAL, revoked REAL) STRICT""",
)

PROVENANCE = (
    """CREATE TABLE provenance (
        response TEXT PRIMARY KEY REFERENCES responses(id), document TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    *(
        f"CREATE TRIGGER provenance_no_{act.lower()} BEFORE {act} ON provenance "
        "BEGIN SELECT RAISE(ABORT, 'provenance is append-only'); END"
        for act in ("UPDATE", "DELETE")
    ),
)
