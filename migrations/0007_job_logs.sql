-- 0007: what a job did, line by line; the newest 500 of each are kept. And which job a job repeats.

ALTER TABLE jobs ADD COLUMN retry_of INTEGER REFERENCES jobs (id);

CREATE TABLE job_logs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL,
    level      TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    event      TEXT NOT NULL CHECK (length(event) BETWEEN 1 AND 32),
    message    TEXT NOT NULL CHECK (length(message) <= 512)
) STRICT;

CREATE INDEX job_logs_by_job ON job_logs (job, id);

CREATE TRIGGER job_logs_bounded AFTER INSERT ON job_logs
BEGIN
    DELETE FROM job_logs WHERE job = NEW.job AND id <= (
        SELECT id FROM job_logs WHERE job = NEW.job ORDER BY id DESC LIMIT 1 OFFSET 500);
END;
