-- 0011: a version that took more images of known classes in, in the place of the version it was made from: step and parent are
-- the same, and so are its classes, whose rows stay those of the other.

ALTER TABLE versions ADD COLUMN refines INTEGER REFERENCES versions (version) CHECK (refines < version);
