-- 0003: bearer tokens.
--
-- Only the hash of a token is kept (BLAKE2b-256, hex): the token itself is 256 random bits, shown once.
-- Revoking deletes the row; AUTOINCREMENT keeps its id from coming back.
CREATE TABLE tokens (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL CHECK (length(name) <= 64),
    scope      TEXT NOT NULL CHECK (scope IN ('predict', 'admin')),
    hash       TEXT NOT NULL UNIQUE CHECK (length(hash) = 64),
    created_ms INTEGER NOT NULL
) STRICT;
