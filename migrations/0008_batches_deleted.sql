-- 0008: batches can be deleted; the jobs that used one keep its name.

CREATE TABLE job_batches_new (
    job      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position >= 0),
    batch    INTEGER REFERENCES batches (id) ON DELETE SET NULL, -- NULL: deleted since
    name     TEXT NOT NULL,                                      -- of the batch
    PRIMARY KEY (job, position),
    UNIQUE (job, batch)
) STRICT, WITHOUT ROWID;

INSERT INTO job_batches_new (job, position, batch, name)
SELECT jb.job, jb.position, jb.batch, b.name FROM job_batches jb JOIN batches b ON b.id = jb.batch;

DROP TABLE job_batches;

ALTER TABLE job_batches_new RENAME TO job_batches;

CREATE INDEX job_batches_by_batch ON job_batches (batch);
