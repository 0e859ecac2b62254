-- Logins, refusals of administrative calls, and administrative changes. No request is decided by
-- this.
CREATE TABLE countersign_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at BIGINT NOT NULL,
    operation TEXT NOT NULL,
    -- begun, done, refused or failed.
    outcome TEXT NOT NULL,
    reason TEXT,
    detail TEXT,
    -- The caller.
    username TEXT,
    issuer TEXT,
    jti TEXT,
    client_types TEXT,
    -- The addresses of the client and of the peer of its connection.
    client TEXT,
    peer TEXT,
    -- The target.
    target_user TEXT,
    role TEXT,
    environment TEXT,
    token TEXT,
    -- Number of equal events that the row stands for.
    occurrences BIGINT NOT NULL
);
CREATE INDEX countersign_audit_at ON countersign_audit (at);
