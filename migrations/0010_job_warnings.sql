-- 0010: what a job was warned of when it was posted.

ALTER TABLE jobs ADD COLUMN warnings TEXT; -- JSON array; NULL: of nothing
