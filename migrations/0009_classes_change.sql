-- 0009: classes can be renamed and retired. Pack files keep the labels they were written with, so a
-- batch knows what each of its classes is called there, and renames are kept for the exemplars, whose
-- file is known by its version.

CREATE TABLE classes_new (
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

INSERT INTO classes_new (id, class, name, since_version, step)
SELECT id, class, name, since_version, step FROM classes;

DROP TABLE classes;

ALTER TABLE classes_new RENAME TO classes;

CREATE UNIQUE INDEX classes_by_name ON classes (since_version, name) WHERE retired_ms IS NULL;

CREATE TRIGGER events_classes AFTER UPDATE OF name, retired_ms ON classes
BEGIN
    INSERT INTO events (kind, created_ms)
    VALUES ('classes', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

ALTER TABLE batch_classes ADD COLUMN stored TEXT; -- label in the pack files; NULL: as `label`

CREATE TABLE renames (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    old            TEXT NOT NULL,
    new            TEXT NOT NULL,
    before_version INTEGER NOT NULL -- files of versions below it have the old name
) STRICT;
