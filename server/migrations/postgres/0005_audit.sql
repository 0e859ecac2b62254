-- Logins, refusals of administrative calls, and administrative changes. No request is decided by
-- this.
CREATE TABLE countersign_audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    operation TEXT COLLATE "C" NOT NULL,
    -- begun, done, refused or failed.
    outcome TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    detail TEXT,
    -- The caller.
    username TEXT COLLATE "C",
    issuer TEXT COLLATE "C",
    jti TEXT COLLATE "C",
    client_types TEXT,
    -- The addresses of the client and of the peer of its connection.
    client TEXT,
    peer TEXT,
    -- The target.
    target_user TEXT COLLATE "C",
    role TEXT COLLATE "C",
    environment TEXT COLLATE "C",
    token TEXT COLLATE "C",
    -- Number of equal events that the row stands for.
    occurrences BIGINT NOT NULL
);
CREATE INDEX countersign_audit_at ON countersign_audit (at);
