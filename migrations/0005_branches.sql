-- 0005: versions branch. After a step back another step may follow, so an output index and a name
-- belong to a class along one chain of parents only; a version may be discarded, or be there without
-- ever having served; and what was measured is known for the dense model and for the snapshot, since
-- an earlier version serves from its snapshot.

ALTER TABLE versions ADD COLUMN published INTEGER NOT NULL DEFAULT 1
    CHECK (published IN (0, 1)); -- it is active or once was
ALTER TABLE versions ADD COLUMN dense_kept INTEGER NOT NULL DEFAULT 1
    CHECK (dense_kept IN (0, 1)); -- models/<version> is there
ALTER TABLE versions ADD COLUMN from_snapshot INTEGER NOT NULL DEFAULT 0
    CHECK (from_snapshot IN (0, 1)); -- what served last was rebuilt from the snapshot
ALTER TABLE versions ADD COLUMN parent_from_snapshot INTEGER NOT NULL DEFAULT 0
    CHECK (parent_from_snapshot IN (0, 1)); -- and what its parent was when this one was made
ALTER TABLE versions ADD COLUMN discarded_ms INTEGER
    CHECK (discarded_ms IS NULL OR active = 0); -- its files are gone, the row stays
ALTER TABLE jobs ADD COLUMN base INTEGER REFERENCES versions (version); -- what it builds on
ALTER TABLE jobs ADD COLUMN published INTEGER NOT NULL DEFAULT 1
    CHECK (published IN (0, 1)); -- its version, where it has one, took over

ALTER TABLE evaluations RENAME TO old_evaluations;
ALTER TABLE confusion RENAME TO old_confusion;
ALTER TABLE classes RENAME TO old_classes;

CREATE TABLE classes (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    class         INTEGER NOT NULL CHECK (class >= 0), -- output index
    name          TEXT NOT NULL,
    since_version INTEGER NOT NULL REFERENCES versions (version),
    step          INTEGER NOT NULL CHECK (step >= 1),
    UNIQUE (since_version, class),
    UNIQUE (since_version, name)
) STRICT;

CREATE TABLE evaluations (
    version INTEGER NOT NULL REFERENCES versions (version),
    pruned  INTEGER NOT NULL CHECK (pruned IN (0, 1)), -- of the snapshot
    class   INTEGER NOT NULL CHECK (class >= 0),       -- output index
    total   INTEGER NOT NULL CHECK (total > 0),
    correct INTEGER NOT NULL CHECK (correct BETWEEN 0 AND total),
    PRIMARY KEY (version, pruned, class)
) STRICT, WITHOUT ROWID;

CREATE TABLE confusion (
    version         INTEGER NOT NULL REFERENCES versions (version),
    pruned          INTEGER NOT NULL CHECK (pruned IN (0, 1)),
    true_class      INTEGER NOT NULL CHECK (true_class >= 0),
    predicted_class INTEGER NOT NULL CHECK (predicted_class >= 0),
    count           INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (version, pruned, true_class, predicted_class)
) STRICT, WITHOUT ROWID;

INSERT INTO classes (id, class, name, since_version, step)
    SELECT class + 1, class, name, since_version, step FROM old_classes ORDER BY class;
INSERT INTO evaluations (version, pruned, class, total, correct)
    SELECT version, 0, class, total, correct FROM old_evaluations;
INSERT INTO confusion (version, pruned, true_class, predicted_class, count)
    SELECT version, 0, true_class, predicted_class, count FROM old_confusion;

DROP TABLE old_evaluations;
DROP TABLE old_confusion;
DROP TABLE old_classes;

CREATE TRIGGER events_classes AFTER UPDATE ON classes
BEGIN
    INSERT INTO events (kind, created_ms)
    VALUES ('classes', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

DROP TRIGGER events_version_discarded;
CREATE TRIGGER events_version_discarded AFTER UPDATE OF discarded_ms ON versions
WHEN NEW.discarded_ms IS NOT NULL AND OLD.discarded_ms IS NULL
BEGIN
    INSERT INTO events (kind, created_ms, what, job, version)
    VALUES ('version', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), 'discarded',
            OLD.job, OLD.version);
END;
