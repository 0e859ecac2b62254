-- Texts and whole numbers only, moments in seconds since 1970, flags as 0 and 1: what
-- both databases mean by is the same, their order included.

CREATE TABLE countersign_user (
    username TEXT PRIMARY KEY CHECK (username <> ''),
    password_hash TEXT NOT NULL,
    auth_method TEXT NOT NULL CHECK (auth_method IN ('database', 'oidc')),
    is_admin BIGINT NOT NULL CHECK (is_admin IN (0, 1)),
    -- Sessions that were begun before are over.
    sessions_since BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE countersign_role (
    name TEXT PRIMARY KEY CHECK (name <> '')
);

CREATE TABLE countersign_environment (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    project_id TEXT NOT NULL,
    UNIQUE (project_id, name)
);

CREATE TABLE countersign_role_assignment (
    username TEXT NOT NULL REFERENCES countersign_user ON DELETE CASCADE,
    environment TEXT NOT NULL REFERENCES countersign_environment ON DELETE CASCADE,
    role TEXT NOT NULL REFERENCES countersign_role,
    PRIMARY KEY (username, environment, role)
);

CREATE TABLE countersign_token (
    jti TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    created_by TEXT,
    client_types TEXT NOT NULL,
    environment TEXT REFERENCES countersign_environment ON DELETE CASCADE,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used BIGINT
);
CREATE INDEX countersign_token_environment ON countersign_token (environment, issued_at);

-- Read by every node from where it was, so numbers are never used again.
CREATE TABLE countersign_revocation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    record TEXT NOT NULL
);
