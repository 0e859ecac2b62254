-- The servers of this database, by their runs: for people to see whether all accept the
-- same tokens. No request is decided by this.
CREATE TABLE countersign_server (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    -- A digest of each section, in JSON.
    sections TEXT NOT NULL,
    -- One of the key that tokens are signed with.
    signing_key TEXT
);
