-- 0012: how many experts a version's classifier asks: snapshots of the first steps, whose features it sees beside the network's own.
-- Those made before asked none.

ALTER TABLE versions ADD COLUMN experts INTEGER NOT NULL DEFAULT 0 CHECK (experts >= 0);
