-- Machine identities, which belong to an organization. Ids are UUIDs; lists are in JSON.
CREATE TABLE countersign_organization (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Number of changes of login methods, by which other nodes notice one.
    methods_revision BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE countersign_organization_role (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES countersign_organization ON DELETE CASCADE,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (organization, slug)
);

CREATE TABLE countersign_project_role (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES countersign_project ON DELETE CASCADE,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (project, slug)
);

CREATE TABLE countersign_identity (
    id TEXT PRIMARY KEY,
    organization TEXT NOT NULL REFERENCES countersign_organization ON DELETE CASCADE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    has_delete_protection BIGINT NOT NULL DEFAULT 0 CHECK (has_delete_protection IN (0, 1)),
    -- Pairs of a key and a value.
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX countersign_identity_organization ON countersign_identity (organization, name, id);

-- The roles of an identity in a project.
CREATE TABLE countersign_identity_project (
    id TEXT PRIMARY KEY,
    identity TEXT NOT NULL REFERENCES countersign_identity ON DELETE CASCADE,
    project TEXT NOT NULL REFERENCES countersign_project ON DELETE CASCADE,
    roles TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (identity, project)
);
CREATE INDEX countersign_identity_project_project ON countersign_identity_project (project);

-- Login methods: what all kinds have. A method that is attached again has another id.
CREATE TABLE countersign_identity_method (
    id TEXT PRIMARY KEY,
    identity TEXT NOT NULL REFERENCES countersign_identity ON DELETE CASCADE,
    kind TEXT NOT NULL,
    token_ttl BIGINT NOT NULL,
    token_max_ttl BIGINT NOT NULL,
    token_period BIGINT NOT NULL DEFAULT 0,
    token_uses_limit BIGINT NOT NULL,
    token_trusted_ips TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (identity, kind)
);

CREATE TABLE countersign_tls_certificate_method (
    method TEXT PRIMARY KEY REFERENCES countersign_identity_method ON DELETE CASCADE,
    -- In PEM, as it was given.
    ca_certificate TEXT NOT NULL,
    allowed_common_names TEXT,
    allowed_alt_names TEXT,
    verifies_chain BIGINT NOT NULL CHECK (verifies_chain IN (0, 1))
);

CREATE TABLE countersign_universal_auth_method (
    method TEXT PRIMARY KEY REFERENCES countersign_identity_method ON DELETE CASCADE,
    client_id TEXT NOT NULL UNIQUE,
    secret_trusted_ips TEXT NOT NULL,
    lockout_enabled BIGINT NOT NULL CHECK (lockout_enabled IN (0, 1)),
    lockout_threshold BIGINT NOT NULL,
    lockout_duration BIGINT NOT NULL,
    lockout_counter_reset BIGINT NOT NULL
);

CREATE TABLE countersign_client_secret (
    id TEXT PRIMARY KEY,
    method TEXT NOT NULL REFERENCES countersign_identity_method ON DELETE CASCADE,
    prefix TEXT NOT NULL,
    -- SHA-256 in hexadecimal, of a random secret.
    digest TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    uses BIGINT NOT NULL DEFAULT 0,
    uses_limit BIGINT NOT NULL,
    ttl BIGINT NOT NULL,
    is_revoked BIGINT NOT NULL DEFAULT 0 CHECK (is_revoked IN (0, 1)),
    last_used_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX countersign_client_secret_method ON countersign_client_secret (method, created_at, id);

-- Access tokens that have a limit of uses. Others need no row.
CREATE TABLE countersign_identity_token (
    id TEXT PRIMARY KEY,
    method TEXT NOT NULL REFERENCES countersign_identity_method ON DELETE CASCADE,
    uses BIGINT NOT NULL DEFAULT 0,
    uses_limit BIGINT NOT NULL,
    -- Uses in the count that nodes have leased, and may return.
    held BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    -- The latest end of its renewals; once its uses are exhausted, the time of that.
    expires_at BIGINT NOT NULL,
    is_revoked BIGINT NOT NULL DEFAULT 0 CHECK (is_revoked IN (0, 1)),
    over_since BIGINT
);
CREATE INDEX countersign_identity_token_method ON countersign_identity_token (method);
CREATE INDEX countersign_identity_token_expires_at ON countersign_identity_token (expires_at);
