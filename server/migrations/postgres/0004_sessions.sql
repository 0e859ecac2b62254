-- Sources from which a user has logged in, as digests: they have a login budget of their own.
CREATE TABLE countersign_login_source (
    username TEXT COLLATE "C" NOT NULL REFERENCES countersign_user ON DELETE CASCADE,
    source TEXT COLLATE "C" NOT NULL,
    last_login BIGINT NOT NULL,
    PRIMARY KEY (username, source)
);

-- Session tokens that were renewed or ended, by the SHA-256 of their signing input. A row is
-- removed some time after its token is revoked.
CREATE TABLE countersign_renewal (
    token TEXT COLLATE "C" PRIMARY KEY,
    expires_at BIGINT,
    revoke_at BIGINT NOT NULL,
    is_revoked BIGINT NOT NULL DEFAULT 0 CHECK (is_revoked IN (0, 1)),
    -- The token that replaced it, with its claims, which are signed again for a second renewal.
    successor TEXT COLLATE "C",
    successor_expires_at BIGINT,
    -- Absent once the session was ended.
    claims TEXT
);
CREATE INDEX countersign_renewal_successor ON countersign_renewal (successor);
CREATE INDEX countersign_renewal_due ON countersign_renewal (is_revoked, revoke_at);
