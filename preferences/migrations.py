"""The schema, as an append-only set of migrations: never edit one that has landed, add the next."""

from sqlite_utils import Database, Migrations

from preferences.erasure_schema import ERASURE
from preferences.spot_schema import SPOT_CHECKS
from preferences.worker_schema import PROVENANCE, WORKER_TOKENS, WORKERS_AND_RUNS

migrations = Migrations("rankloop")

FIRST_SCHEMA = (
    """CREATE TABLE studies (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, k INTEGER NOT NULL CHECK (k BETWEEN 2 AND 9),
        mode TEXT NOT NULL, plan TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'closed')),
        created REAL NOT NULL) STRICT""",
    """CREATE TABLE guidelines (
        id TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id), version INTEGER NOT NULL, text TEXT NOT NULL,
        created REAL NOT NULL, UNIQUE (study, version)) STRICT""",
    """CREATE TABLE prompts (
        id TEXT PRIMARY KEY, messages TEXT NOT NULL, cluster TEXT NOT NULL,
        split TEXT NOT NULL CHECK (split IN ('train', 'heldout')), source TEXT NOT NULL, language TEXT NOT NULL,
        tags TEXT NOT NULL, created REAL NOT NULL) STRICT""",
    """CREATE TABLE study_prompts (
        study TEXT NOT NULL REFERENCES studies(id), prompt TEXT NOT NULL REFERENCES prompts(id),
        PRIMARY KEY (study, prompt)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE policies (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL CHECK (kind IN ('base', 'sft', 'ppo', 'imported', 'human')),
        base TEXT NOT NULL, quantization TEXT NOT NULL, adapter TEXT, parent TEXT REFERENCES policies(id),
        data_hash TEXT NOT NULL, config TEXT NOT NULL, code_version TEXT NOT NULL, created REAL NOT NULL) STRICT""",
    """CREATE TABLE study_policies (
        id INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id),
        policy TEXT NOT NULL REFERENCES policies(id), since REAL NOT NULL, until REAL) STRICT""",
    "CREATE TABLE texts (id TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE responses (
        id TEXT PRIMARY KEY, prompt TEXT NOT NULL REFERENCES prompts(id), policy TEXT NOT NULL REFERENCES policies(id),
        text TEXT NOT NULL REFERENCES texts(id), seed INTEGER NOT NULL, sample_index INTEGER NOT NULL,
        temperature REAL NOT NULL, top_p REAL NOT NULL, max_new_tokens INTEGER NOT NULL,
        finish_reason TEXT NOT NULL CHECK (finish_reason IN ('stop', 'length')), tokens INTEGER NOT NULL,
        template_hash TEXT NOT NULL, created REAL NOT NULL) STRICT""",
    "CREATE INDEX responses_by_prompt ON responses (prompt, policy)",
    """CREATE TABLE comparisons (
        id TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id), prompt TEXT NOT NULL REFERENCES prompts(id),
        origin TEXT NOT NULL, priority REAL NOT NULL, created REAL NOT NULL) STRICT""",
    "CREATE INDEX comparisons_by_study ON comparisons (study, priority DESC, created)",
    """CREATE TABLE comparison_responses (
        comparison TEXT NOT NULL REFERENCES comparisons(id), position INTEGER NOT NULL,
        response TEXT NOT NULL REFERENCES responses(id), same_as TEXT NOT NULL REFERENCES responses(id),
        PRIMARY KEY (comparison, position), UNIQUE (comparison, response)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE annotators (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE,
        role TEXT NOT NULL CHECK (role IN ('annotator', 'researcher', 'admin')), password_hash TEXT NOT NULL,
        simulated INTEGER NOT NULL, active INTEGER NOT NULL, settings TEXT NOT NULL, created REAL NOT NULL) STRICT""",
    """CREATE TABLE sessions (
        token_hash TEXT PRIMARY KEY, annotator TEXT NOT NULL REFERENCES annotators(id), created REAL NOT NULL,
        last_seen REAL NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID""",
    """CREATE TABLE leases (
        id TEXT PRIMARY KEY, comparison TEXT NOT NULL REFERENCES comparisons(id),
        annotator TEXT NOT NULL REFERENCES annotators(id), shown TEXT NOT NULL, created REAL NOT NULL,
        expires REAL NOT NULL, released REAL) STRICT""",
    "CREATE INDEX leases_open ON leases (comparison, annotator) WHERE released IS NULL",
    """CREATE TABLE drafts (
        comparison TEXT NOT NULL REFERENCES comparisons(id), annotator TEXT NOT NULL REFERENCES annotators(id),
        body TEXT NOT NULL, updated REAL NOT NULL, PRIMARY KEY (comparison, annotator)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE rankings (
        id TEXT PRIMARY KEY, comparison TEXT NOT NULL REFERENCES comparisons(id),
        annotator TEXT NOT NULL REFERENCES annotators(id),
        kind TEXT NOT NULL CHECK (kind IN ('ranking', 'skip', 'withdrawal')), tiers TEXT NOT NULL, shown TEXT NOT NULL,
        nonce TEXT NOT NULL, active_ms INTEGER NOT NULL, strengths TEXT NOT NULL, flags TEXT NOT NULL,
        reason TEXT NOT NULL, rewrite TEXT NOT NULL, guideline TEXT REFERENCES guidelines(id),
        supersedes TEXT UNIQUE REFERENCES rankings(id), created REAL NOT NULL, UNIQUE (annotator, nonce)) STRICT""",
    "CREATE INDEX rankings_by_comparison ON rankings (comparison)",
    "CREATE INDEX rankings_by_annotator ON rankings (annotator, created)",
    """CREATE VIEW current_rankings AS SELECT * FROM rankings AS r WHERE r.kind != 'withdrawal'
        AND NOT EXISTS (SELECT 1 FROM rankings AS later WHERE later.supersedes = r.id)""",
    """CREATE TABLE jobs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, spec TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        progress TEXT NOT NULL, worker TEXT, heartbeat REAL, error TEXT NOT NULL, created REAL NOT NULL,
        started REAL, finished REAL) STRICT""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY, at REAL NOT NULL, actor TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
        detail TEXT NOT NULL) STRICT""",
)

APPEND_ONLY = ("rankings", "events", "responses", "texts")


@migrations()  # type: ignore[untyped-decorator]
def m001_first_schema(db: Database) -> None:
    for statement in FIRST_SCHEMA:
        db.execute(statement)
    for table in APPEND_ONLY:
        for act in ("UPDATE", "DELETE"):
            db.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


PURPOSES = "CHECK (purpose IN ('label', 'repeat', 'gold', 'adjudication'))"

ASSIGNMENT = (
    f"ALTER TABLE leases ADD COLUMN purpose TEXT NOT NULL DEFAULT 'label' {PURPOSES}",
    f"ALTER TABLE rankings ADD COLUMN purpose TEXT NOT NULL DEFAULT 'label' {PURPOSES}",
    "ALTER TABLE annotators ADD COLUMN languages TEXT NOT NULL DEFAULT '[]'",
    """CREATE TABLE consent_texts (
        id TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id), version INTEGER NOT NULL, text TEXT NOT NULL,
        created REAL NOT NULL, UNIQUE (study, version)) STRICT""",
    """CREATE TABLE consents (
        annotator TEXT NOT NULL REFERENCES annotators(id), consent TEXT NOT NULL REFERENCES consent_texts(id),
        at REAL NOT NULL, PRIMARY KEY (annotator, consent)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE exclusions (
        id INTEGER PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id),
        annotator TEXT NOT NULL REFERENCES annotators(id), reason TEXT NOT NULL, actor TEXT NOT NULL,
        since REAL NOT NULL, lifted REAL) STRICT""",
    "CREATE UNIQUE INDEX exclusions_now ON exclusions (annotator, study) WHERE lifted IS NULL",
    """CREATE TABLE outdated (
        ranking TEXT PRIMARY KEY REFERENCES rankings(id), guideline TEXT NOT NULL REFERENCES guidelines(id),
        at REAL NOT NULL) STRICT, WITHOUT ROWID""",
    # What an annotator has said, and what of it counts: whoever makes current_rankings anew must keep both its
    # conditions, since exports, statistics and training all read it.
    "DROP VIEW current_rankings",
    """CREATE VIEW standing_rankings AS SELECT * FROM rankings AS r WHERE r.kind != 'withdrawal'
        AND NOT EXISTS (SELECT 1 FROM rankings AS later WHERE later.supersedes = r.id)""",
    """CREATE VIEW current_rankings AS SELECT * FROM standing_rankings AS s
        WHERE NOT EXISTS (SELECT 1 FROM outdated WHERE ranking = s.id)
        AND NOT EXISTS (SELECT 1 FROM exclusions AS e JOIN comparisons AS c ON c.study = e.study
            WHERE e.annotator = s.annotator AND e.lifted IS NULL AND c.id = s.comparison)""",
)


@migrations()  # type: ignore[untyped-decorator]
def m002_purposes_consent_exclusions(db: Database) -> None:
    for statement in ASSIGNMENT:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m003_images_remarks_own_prompts(db: Database) -> None:
    db.execute(
        """CREATE TABLE images (
            id TEXT PRIMARY KEY, data BLOB NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
            created REAL NOT NULL) STRICT"""
    )
    db.execute(
        """CREATE TABLE remarks (
            id TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES studies(id),
            annotator TEXT NOT NULL REFERENCES annotators(id), comparison TEXT REFERENCES comparisons(id),
            text TEXT NOT NULL, created REAL NOT NULL) STRICT"""
    )
    db.execute("CREATE INDEX remarks_by_study ON remarks (study, created)")
    db.execute("ALTER TABLE comparisons ADD COLUMN asked_by TEXT REFERENCES annotators(id)")


RICHER_ANSWERS = (
    """ALTER TABLE rankings ADD COLUMN mode TEXT NOT NULL DEFAULT 'ranking'
        CHECK (mode IN ('ranking', 'best-worst', 'pairwise'))""",
    "ALTER TABLE rankings ADD COLUMN verdict TEXT NOT NULL DEFAULT '' CHECK (verdict IN ('', 'cannot_rank'))",
    "ALTER TABLE rankings ADD COLUMN ratings TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE rankings ADD COLUMN rewrite_of TEXT REFERENCES responses(id)",
    "CREATE INDEX leases_by_annotator ON leases (annotator) WHERE released IS NULL",
    "CREATE INDEX drafts_by_annotator ON drafts (annotator)",
    # A view keeps the columns that its table had when it was made.
    "DROP VIEW current_rankings",
    "DROP VIEW standing_rankings",
    """CREATE VIEW standing_rankings AS SELECT * FROM rankings AS r WHERE r.kind != 'withdrawal'
        AND NOT EXISTS (SELECT 1 FROM rankings AS later WHERE later.supersedes = r.id)""",
    """CREATE VIEW current_rankings AS SELECT * FROM standing_rankings AS s
        WHERE NOT EXISTS (SELECT 1 FROM outdated WHERE ranking = s.id)
        AND NOT EXISTS (SELECT 1 FROM exclusions AS e JOIN comparisons AS c ON c.study = e.study
            WHERE e.annotator = s.annotator AND e.lifted IS NULL AND c.id = s.comparison)""",
)


@migrations()  # type: ignore[untyped-decorator]
def m004_richer_answers(db: Database) -> None:
    for statement in RICHER_ANSWERS:
        db.execute(statement)


ROOM = "labels < wanted + extra AND asked_by IS NULL"
OLD_PLAN = '{"shared": 0, "repeats": 0, "gold": 0, "qualification": 0, "adjudicate": false}'

COUNTERS = (
    # How many people should rank a comparison, one more if they split, how many did, and how many simulated ones did.
    "ALTER TABLE comparisons ADD COLUMN wanted INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE comparisons ADD COLUMN extra INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE comparisons ADD COLUMN labels INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE comparisons ADD COLUMN labels_simulated INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE studies ADD COLUMN open INTEGER NOT NULL DEFAULT 0",  # comparisons that want another person's label
    """CREATE TABLE tallies (
        study TEXT NOT NULL REFERENCES studies(id), annotator TEXT NOT NULL REFERENCES annotators(id),
        rankings INTEGER NOT NULL, PRIMARY KEY (study, annotator)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX tallies_by_annotator ON tallies (annotator)",
    """CREATE TABLE golds (
        comparison TEXT PRIMARY KEY REFERENCES comparisons(id), study TEXT NOT NULL REFERENCES studies(id),
        tiers TEXT NOT NULL, explanation TEXT NOT NULL, created REAL NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX golds_by_study ON golds (study)",
    """CREATE TABLE repeats_due (
        annotator TEXT NOT NULL REFERENCES annotators(id), comparison TEXT NOT NULL REFERENCES comparisons(id),
        after INTEGER NOT NULL, PRIMARY KEY (annotator, comparison)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE qualifications (
        study TEXT NOT NULL REFERENCES studies(id), annotator TEXT NOT NULL REFERENCES annotators(id),
        passed INTEGER NOT NULL, agreement REAL, actor TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (study, annotator)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE invites (
        token_hash TEXT PRIMARY KEY, annotator TEXT NOT NULL REFERENCES annotators(id), created REAL NOT NULL,
        expires REAL NOT NULL, used REAL, actor TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    f"UPDATE studies SET plan = json_patch('{OLD_PLAN}', plan)",
    """UPDATE comparisons SET
        wanted = coalesce((SELECT json_extract(s.plan, iif(p.split = 'train', '$.labels_train', '$.labels_heldout'))
            FROM studies AS s, prompts AS p WHERE s.id = comparisons.study AND p.id = comparisons.prompt), 1),
        labels = (SELECT count(*) FROM current_rankings AS r JOIN annotators AS a ON a.id = r.annotator
            WHERE r.comparison = comparisons.id AND r.kind = 'ranking' AND NOT a.simulated),
        labels_simulated = (SELECT count(*) FROM current_rankings AS r JOIN annotators AS a ON a.id = r.annotator
            WHERE r.comparison = comparisons.id AND r.kind = 'ranking' AND a.simulated)""",
    f"UPDATE studies SET open = (SELECT count(*) FROM comparisons WHERE study = studies.id AND {ROOM})",
    """INSERT INTO tallies SELECT c.study, r.annotator, count(*) FROM standing_rankings AS r
        JOIN comparisons AS c ON c.id = r.comparison WHERE r.kind = 'ranking' GROUP BY c.study, r.annotator""",
    f"CREATE INDEX comparisons_open ON comparisons (study, labels > 0, priority DESC, created) WHERE {ROOM}",
    """CREATE INDEX comparisons_open_simulated ON comparisons (study, labels_simulated > 0, priority DESC, created)
        WHERE labels_simulated < wanted AND asked_by IS NULL""",
    "CREATE INDEX comparisons_by_prompt ON comparisons (prompt)",
    "CREATE INDEX comparisons_asked_by ON comparisons (asked_by, study) WHERE asked_by IS NOT NULL",
    "DROP INDEX rankings_by_comparison",
    "CREATE INDEX rankings_by_comparison ON rankings (comparison, annotator)",
    "CREATE INDEX rankings_as_stored ON rankings (annotator)",  # its entries are in the order of rowids
    "CREATE INDEX leases_by_expiry ON leases (expires) WHERE released IS NULL",
    """CREATE TRIGGER comparisons_opened AFTER INSERT ON comparisons
        WHEN NEW.labels < NEW.wanted + NEW.extra AND NEW.asked_by IS NULL
        BEGIN UPDATE studies SET open = open + 1 WHERE id = NEW.study; END""",
    """CREATE TRIGGER comparisons_reopened AFTER UPDATE OF labels, wanted, extra ON comparisons
        WHEN (OLD.labels < OLD.wanted + OLD.extra) != (NEW.labels < NEW.wanted + NEW.extra) AND NEW.asked_by IS NULL
        BEGIN UPDATE studies SET open = open + iif(NEW.labels < NEW.wanted + NEW.extra, 1, -1)
            WHERE id = NEW.study; END""",
    """CREATE TRIGGER rankings_tallied AFTER INSERT ON rankings
        BEGIN
            INSERT INTO tallies (study, annotator, rankings)
                SELECT study, NEW.annotator, 0 FROM comparisons WHERE id = NEW.comparison
                ON CONFLICT (study, annotator) DO NOTHING;
            UPDATE tallies SET rankings = rankings + (NEW.kind = 'ranking')
                - EXISTS (SELECT 1 FROM rankings WHERE id = NEW.supersedes AND kind = 'ranking')
                WHERE annotator = NEW.annotator
                AND study = (SELECT study FROM comparisons WHERE id = NEW.comparison);
        END""",
)


@migrations()  # type: ignore[untyped-decorator]
def m005_counters_gold_invites(db: Database) -> None:
    for statement in COUNTERS:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m006_annotators_of_studies(db: Database) -> None:
    # A study without a row here is open to everybody.
    db.execute(
        """CREATE TABLE study_annotators (
        study TEXT NOT NULL REFERENCES studies (id), annotator TEXT NOT NULL REFERENCES annotators (id),
        PRIMARY KEY (study, annotator)) STRICT, WITHOUT ROWID"""
    )


TEXTS_IN_ORDER = (
    # Without rowids each text lay at a place of its own, by its hash, and in the inner nodes of the tree as well: to read
    # the responses of a study was to read its file in no order. Now they lie in the order in which they were sampled.
    "CREATE TABLE texts_in_order (id TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT",
    """INSERT INTO texts_in_order SELECT t.id, t.text FROM responses AS r CROSS JOIN texts AS t ON t.id = r.text
        WHERE true ORDER BY r.rowid ON CONFLICT DO NOTHING""",
    "INSERT INTO texts_in_order SELECT id, text FROM texts WHERE true ON CONFLICT DO NOTHING",
    "DROP TABLE texts",
    "ALTER TABLE texts_in_order RENAME TO texts",
    "CREATE TRIGGER texts_no_update BEFORE UPDATE ON texts BEGIN SELECT RAISE(ABORT, 'texts is append-only'); END",
    "CREATE TRIGGER texts_no_delete BEFORE DELETE ON texts BEGIN SELECT RAISE(ABORT, 'texts is append-only'); END",
)


@migrations()  # type: ignore[untyped-decorator]
def m007_texts_in_order(db: Database) -> None:
    for statement in TEXTS_IN_ORDER:
        db.execute(statement)


ORDER_OF_STORING = (
    "DROP VIEW current_rankings",
    "DROP VIEW standing_rankings",
    """CREATE VIEW standing_rankings AS SELECT r.rowid AS line, r.* FROM rankings AS r WHERE r.kind != 'withdrawal'
        AND NOT EXISTS (SELECT 1 FROM rankings AS later WHERE later.supersedes = r.id)""",
    # CROSS: from the annotator's exclusions, mostly none, to the comparison; never the other way round.
    """CREATE VIEW current_rankings AS SELECT * FROM standing_rankings AS s
        WHERE NOT EXISTS (SELECT 1 FROM outdated WHERE ranking = s.id)
        AND NOT EXISTS (SELECT 1 FROM exclusions AS e CROSS JOIN comparisons AS c ON c.study = e.study
            WHERE e.annotator = s.annotator AND e.lifted IS NULL AND c.id = s.comparison)""",
)


@migrations()  # type: ignore[untyped-decorator]
def m008_order_of_storing(db: Database) -> None:
    for statement in ORDER_OF_STORING:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m009_repeats_in_order(db: Database) -> None:
    # The next repeat is read off it; each task would look up all of the annotator's otherwise.
    db.execute("CREATE INDEX repeats_in_order ON repeats_due (annotator, after, comparison)")


@migrations()  # type: ignore[untyped-decorator]
def m010_remarks_done(db: Database) -> None:
    db.execute("ALTER TABLE remarks ADD COLUMN done REAL")


@migrations()  # type: ignore[untyped-decorator]
def m011_erasure(db: Database) -> None:
    for statement in ERASURE:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m012_scores_and_spot_checks(db: Database) -> None:
    for statement in SPOT_CHECKS:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m013_workers_and_runs(db: Database) -> None:
    for statement in WORKERS_AND_RUNS:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m014_worker_tokens(db: Database) -> None:
    for statement in WORKER_TOKENS:
        db.execute(statement)


@migrations()  # type: ignore[untyped-decorator]
def m015_provenance(db: Database) -> None:
    for statement in PROVENANCE:
        db.execute(statement)


def unknown_migrations(db: Database) -> set[str]:
    """Names applied to `db` that this version does not know: the mark of a newer version."""
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    return {migration.name for migration in migrations.applied(db)} - known
