"""What migration m012 makes: scores, answers to look at, verdicts. Never edit it, like all that has landed."""

SPOT_CHECKS = (
    """CREATE TABLE scores (
        response TEXT NOT NULL REFERENCES responses(id), reward TEXT NOT NULL, score REAL NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (reward, response)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE spot_checks (
        id TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id), response TEXT NOT NULL REFERENCES responses(id),
        kind TEXT NOT NULL, value REAL NOT NULL, baseline TEXT REFERENCES responses(id), created REAL NOT NULL) STRICT""",
    """CREATE TABLE spot_verdicts (
        spot_check TEXT NOT NULL REFERENCES spot_checks(id), annotator TEXT NOT NULL REFERENCES annotators(id),
        passed INTEGER NOT NULL, note TEXT NOT NULL, created REAL NOT NULL) STRICT""",
    "CREATE INDEX spot_checks_by_study ON spot_checks (study, created DESC, value DESC)",
    "CREATE INDEX spot_verdicts_by_check ON spot_verdicts (spot_check, annotator)",
    "CREATE INDEX responses_by_policy ON responses (policy)",
    *(
        f"CREATE TRIGGER spot_verdicts_no_{act.lower()} BEFORE {act} ON spot_verdicts "
        "BEGIN SELECT RAISE(ABORT, 'spot_verdicts is append-only'); END"
        for act in ("UPDATE", "DELETE")
    ),
)
