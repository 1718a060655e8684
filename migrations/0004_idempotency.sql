-- 0004: Idempotency-Key: what was answered to a POST, so that a repeated one gets the same answer.
--
-- `status` is NULL while the first request is under way. Rows are dropped a day after their making.
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

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_ms);
