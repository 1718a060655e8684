-- The schema of a migrated database; tests/check_schema.sh --write makes it.

CREATE TABLE batch_classes (
    batch       INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL CHECK (position >= 0),
    label       TEXT NOT NULL CHECK (length(label) > 0),
    train_count INTEGER NOT NULL CHECK (train_count >= 0),
    test_count  INTEGER NOT NULL CHECK (test_count >= 0), stored TEXT,
    PRIMARY KEY (batch, position),
    UNIQUE (batch, label)
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 127),
    hash             TEXT NOT NULL CHECK (length(hash) = 64),
    request_hash     TEXT NOT NULL CHECK (length(request_hash) = 64),
    state            TEXT NOT NULL DEFAULT 'ready'
                     CHECK (state IN ('ready', 'in_use', 'consumed')),
    train_count      INTEGER NOT NULL CHECK (train_count >= 0),
    test_count       INTEGER NOT NULL CHECK (test_count >= 0),
    train_bytes      INTEGER NOT NULL CHECK (train_bytes >= 0),
    test_bytes       INTEGER NOT NULL CHECK (test_bytes >= 0),
    rejected         INTEGER NOT NULL DEFAULT 0 CHECK (rejected >= 0),
    duplicates       INTEGER NOT NULL DEFAULT 0 CHECK (duplicates >= 0),
    verdicts         TEXT, -- JSON
    created_ms       INTEGER NOT NULL,
    consumed_version INTEGER REFERENCES versions (version),
    CHECK ((state = 'consumed') = (consumed_version IS NOT NULL))
) STRICT;

CREATE TABLE "classes" (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    class         INTEGER NOT NULL CHECK (class >= 0), -- output index
    name          TEXT NOT NULL,
    since_version INTEGER NOT NULL REFERENCES versions (version),
    step          INTEGER NOT NULL CHECK (step >= 1),
    retired_ms    INTEGER,
    erased        INTEGER NOT NULL DEFAULT 0 CHECK (erased IN (0, 1)), -- from files, once retired
    UNIQUE (since_version, class),
    CHECK (erased = 0 OR retired_ms IS NOT NULL)
) STRICT;

CREATE TABLE confusion (
    version         INTEGER NOT NULL REFERENCES versions (version),
    pruned          INTEGER NOT NULL CHECK (pruned IN (0, 1)),
    true_class      INTEGER NOT NULL CHECK (true_class >= 0),
    predicted_class INTEGER NOT NULL CHECK (predicted_class >= 0),
    count           INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (version, pruned, true_class, predicted_class)
) STRICT, WITHOUT ROWID;

CREATE TABLE db_upgrades (
    version     INTEGER PRIMARY KEY,
    applied_ms  INTEGER NOT NULL,
    accreted    TEXT NOT NULL
) STRICT;

CREATE TABLE evaluations (
    version INTEGER NOT NULL REFERENCES versions (version),
    pruned  INTEGER NOT NULL CHECK (pruned IN (0, 1)), -- of the snapshot
    class   INTEGER NOT NULL CHECK (class >= 0),       -- output index
    total   INTEGER NOT NULL CHECK (total > 0),
    correct INTEGER NOT NULL CHECK (correct BETWEEN 0 AND total),
    PRIMARY KEY (version, pruned, class)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL CHECK (kind IN ('job', 'epoch', 'batch', 'version', 'classes')),
    created_ms INTEGER NOT NULL,
    what       TEXT, -- a job's or batch's state, what became of a version
    job        INTEGER,
    phase      TEXT,
    error_code TEXT,
    epoch      INTEGER,
    batch      TEXT,
    version    INTEGER
) STRICT;

CREATE TABLE idempotency_keys (
    owner        INTEGER NOT NULL, -- the token's id; 0: there was no token
    key          TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash TEXT NOT NULL CHECK (length(request_hash) = 64),
    created_ms   INTEGER NOT NULL,
    status       INTEGER CHECK (status BETWEEN 200 AND 299),
    content_type TEXT,
    headers      TEXT, -- JSON object
    body         TEXT,
    PRIMARY KEY (owner, key),
    CHECK ((status IS NULL) = (body IS NULL)),
    CHECK ((status IS NULL) = (headers IS NULL)),
    CHECK ((status IS NULL) = (content_type IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE "job_batches" (
    job      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position >= 0),
    batch    INTEGER REFERENCES batches (id) ON DELETE SET NULL, -- NULL: deleted since
    name     TEXT NOT NULL,                                      -- of the batch
    PRIMARY KEY (job, position),
    UNIQUE (job, batch)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_logs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL,
    level      TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    event      TEXT NOT NULL CHECK (length(event) BETWEEN 1 AND 32),
    message    TEXT NOT NULL CHECK (length(message) <= 512)
) STRICT;

CREATE TABLE job_metrics (
    job        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    pruned     INTEGER NOT NULL CHECK (pruned IN (0, 1)),
    loss_class REAL,
    loss_mmd   REAL,
    loss_ad    REAL,
    accuracy   REAL,
    rate       REAL,
    seconds    REAL,
    PRIMARY KEY (job, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    state         TEXT NOT NULL DEFAULT 'queued' CHECK (state IN
                  ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')),
    phase         TEXT CHECK (phase IN
                  ('validate', 'distil', 'train', 'prune', 'evaluate', 'publish')),
    attempt       INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1),    -- since the last new epoch
    restarts      INTEGER NOT NULL DEFAULT 0 CHECK (restarts >= 0),   -- in all
    epochs_before INTEGER NOT NULL DEFAULT 0 CHECK (epochs_before >= 0), -- when this attempt began
    progress      REAL NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    options       TEXT NOT NULL, -- JSON, every option
    error_code    TEXT,
    error_detail  TEXT,
    stopped       INTEGER NOT NULL DEFAULT 0 CHECK (stopped IN (0, 1)), -- told to, not crashed
    interruption  TEXT CHECK (interruption IN ('daemon_stopped', 'daemon_crashed')), -- the last one
    created_ms    INTEGER NOT NULL,
    started_ms    INTEGER,
    finished_ms   INTEGER,
    version       INTEGER REFERENCES versions (version),
    kernel        TEXT,
    gang          INTEGER CHECK (gang >= 1),
    reproducible  INTEGER CHECK (reproducible IN (0, 1)),
    train_images  INTEGER CHECK (train_images >= 0),
    images_per_second REAL, base INTEGER REFERENCES versions (version), published INTEGER NOT NULL DEFAULT 1
    CHECK (published IN (0, 1)), retry_of INTEGER REFERENCES jobs (id), warnings TEXT,
    CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CHECK ((error_code IS NULL) = (error_detail IS NULL)),
    CHECK ((state = 'succeeded') = (version IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_ms IS NOT NULL))
) STRICT;

CREATE TABLE renames (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    old            TEXT NOT NULL,
    new            TEXT NOT NULL,
    before_version INTEGER NOT NULL -- files of versions below it have the old name
) STRICT;

CREATE TABLE tokens (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL CHECK (length(name) <= 64),
    scope      TEXT NOT NULL CHECK (scope IN ('predict', 'admin')),
    hash       TEXT NOT NULL UNIQUE CHECK (length(hash) = 64),
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE versions (
    version         INTEGER PRIMARY KEY CHECK (version >= 1),
    parent          INTEGER REFERENCES versions (version),
    job             INTEGER NOT NULL UNIQUE REFERENCES jobs (id),
    step            INTEGER NOT NULL CHECK (step >= 1),
    active          INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    classes         INTEGER NOT NULL CHECK (classes >= 1),
    model_bytes     INTEGER NOT NULL,
    snapshot_bytes  INTEGER NOT NULL,
    dense_bytes     INTEGER NOT NULL,
    sparsity        REAL NOT NULL,
    accuracy_dense  REAL,
    accuracy_pruned REAL,
    created_ms      INTEGER NOT NULL,
    train_seconds   REAL NOT NULL, published INTEGER NOT NULL DEFAULT 1
    CHECK (published IN (0, 1)), dense_kept INTEGER NOT NULL DEFAULT 1
    CHECK (dense_kept IN (0, 1)), from_snapshot INTEGER NOT NULL DEFAULT 0
    CHECK (from_snapshot IN (0, 1)), parent_from_snapshot INTEGER NOT NULL DEFAULT 0
    CHECK (parent_from_snapshot IN (0, 1)), discarded_ms INTEGER
    CHECK (discarded_ms IS NULL OR active = 0), gate TEXT, refines INTEGER REFERENCES versions (version) CHECK (refines < version), experts INTEGER NOT NULL DEFAULT 0 CHECK (experts >= 0),
    CHECK ((parent IS NULL) = (step = 1)),
    CHECK (parent < version)
) STRICT;

CREATE INDEX batch_classes_by_label ON batch_classes (label);

CREATE INDEX batches_by_request ON batches (request_hash);

CREATE UNIQUE INDEX classes_by_name ON classes (since_version, name) WHERE retired_ms IS NULL;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_ms);

CREATE INDEX job_batches_by_batch ON job_batches (batch);

CREATE INDEX job_logs_by_job ON job_logs (job, id);

CREATE INDEX jobs_by_state ON jobs (state, id);

CREATE UNIQUE INDEX versions_one_active ON versions (active) WHERE active = 1;

CREATE TRIGGER events_batch_changed AFTER UPDATE OF state ON batches
WHEN NEW.state <> OLD.state
BEGIN
    INSERT INTO events (kind, created_ms, what, batch)
    VALUES ('batch', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.name);
END;

CREATE TRIGGER events_batch_deleted AFTER DELETE ON batches
BEGIN
    INSERT INTO events (kind, created_ms, what, batch)
    VALUES ('batch', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'deleted', OLD.name);
END;

CREATE TRIGGER events_batch_new AFTER INSERT ON batches
BEGIN
    INSERT INTO events (kind, created_ms, what, batch)
    VALUES ('batch', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.name);
END;

CREATE TRIGGER events_bounded AFTER INSERT ON events
BEGIN
    DELETE FROM events WHERE id <= NEW.id - 1000;
END;

CREATE TRIGGER events_classes AFTER UPDATE OF name, retired_ms ON classes
BEGIN
    INSERT INTO events (kind, created_ms)
    VALUES ('classes', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

CREATE TRIGGER events_epoch AFTER INSERT ON job_metrics
BEGIN
    INSERT INTO events (kind, created_ms, job, epoch)
    VALUES ('epoch', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.job, NEW.epoch);
END;

CREATE TRIGGER events_job_changed AFTER UPDATE OF state, phase ON jobs
WHEN NEW.state <> OLD.state OR NEW.phase IS NOT OLD.phase
BEGIN
    INSERT INTO events (kind, created_ms, what, job, phase, error_code)
    VALUES ('job', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.id,
            NEW.phase, NEW.error_code);
END;

CREATE TRIGGER events_job_new AFTER INSERT ON jobs
BEGIN
    INSERT INTO events (kind, created_ms, what, job)
    VALUES ('job', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.id);
END;

CREATE TRIGGER events_version_activated AFTER UPDATE OF active ON versions
WHEN NEW.active = 1 AND OLD.active = 0
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'activated',
            NEW.job, NEW.version);
END;

CREATE TRIGGER events_version_discarded AFTER UPDATE OF discarded_ms ON versions
WHEN NEW.discarded_ms IS NOT NULL AND OLD.discarded_ms IS NULL
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'discarded',
            OLD.job, OLD.version);
END;

CREATE TRIGGER events_version_new AFTER INSERT ON versions
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER),
            CASE NEW.active WHEN 1 THEN 'activated' ELSE 'added' END, NEW.job, NEW.version);
END;

CREATE TRIGGER job_logs_bounded AFTER INSERT ON job_logs
BEGIN
    DELETE FROM job_logs WHERE job = NEW.job AND id <= (
        SELECT id FROM job_logs WHERE job = NEW.job ORDER BY id DESC LIMIT 1 OFFSET 500);
END;

CREATE TRIGGER jobs_final BEFORE UPDATE ON jobs
WHEN OLD.state IN ('succeeded', 'failed', 'cancelled')
BEGIN
    SELECT RAISE(ABORT, 'a finished job is final');
END;

CREATE TRIGGER jobs_transitions BEFORE UPDATE OF state ON jobs
WHEN NEW.state <> OLD.state AND NOT (
       (OLD.state = 'queued'     AND NEW.state IN ('running', 'cancelled'))
    OR (OLD.state = 'running'    AND NEW.state IN ('queued', 'cancelling', 'succeeded', 'failed'))
    OR (OLD.state = 'cancelling' AND NEW.state = 'cancelled'))
BEGIN
    SELECT RAISE(ABORT, 'this change of a job''s state is not allowed');
END;
