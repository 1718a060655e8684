-- 0002: what happened, for GET /api/v1/events. The triggers write a row in the transaction of the
-- change itself, so there is an event exactly where a change was committed; ids only grow. The
-- newest 1,000 are kept.

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

CREATE TRIGGER events_bounded AFTER INSERT ON events
BEGIN
    DELETE FROM events WHERE id <= NEW.id - 1000;
END;

CREATE TRIGGER events_job_new AFTER INSERT ON jobs
BEGIN
    INSERT INTO events (kind, created_ms, what, job)
    VALUES ('job', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.id);
END;

CREATE TRIGGER events_job_changed AFTER UPDATE OF state, phase ON jobs
WHEN NEW.state <> OLD.state OR NEW.phase IS NOT OLD.phase
BEGIN
    INSERT INTO events (kind, created_ms, what, job, phase, error_code)
    VALUES ('job', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.id,
            NEW.phase, NEW.error_code);
END;

CREATE TRIGGER events_epoch AFTER INSERT ON job_metrics
BEGIN
    INSERT INTO events (kind, created_ms, job, epoch)
    VALUES ('epoch', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.job, NEW.epoch);
END;

CREATE TRIGGER events_batch_new AFTER INSERT ON batches
BEGIN
    INSERT INTO events (kind, created_ms, what, batch)
    VALUES ('batch', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.state, NEW.name);
END;

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

CREATE TRIGGER events_version_new AFTER INSERT ON versions
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER),
            CASE NEW.active WHEN 1 THEN 'activated' ELSE 'added' END, NEW.job, NEW.version);
END;

CREATE TRIGGER events_version_activated AFTER UPDATE OF active ON versions
WHEN NEW.active = 1 AND OLD.active = 0
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'activated',
            NEW.job, NEW.version);
END;

CREATE TRIGGER events_version_discarded AFTER DELETE ON versions
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'discarded',
            OLD.job, OLD.version);
END;

-- Renamed or retired; new ones come with their version.
CREATE TRIGGER events_classes AFTER UPDATE ON classes
BEGIN
    INSERT INTO events (kind, created_ms)
    VALUES ('classes', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;
