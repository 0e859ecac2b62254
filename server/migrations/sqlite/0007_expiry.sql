-- The end of a revocation, which its record has too. A row is over since this time of the database,
-- by `open_seconds`.
ALTER TABLE countersign_revocation ADD COLUMN until BIGINT;
ALTER TABLE countersign_revocation ADD COLUMN over_since BIGINT;
UPDATE countersign_revocation SET until = min(json_extract(record, '$.until'), 9223372036854775807)
    WHERE json_valid(record);
CREATE INDEX countersign_revocation_until ON countersign_revocation (until);
ALTER TABLE countersign_token ADD COLUMN over_since BIGINT;
ALTER TABLE countersign_audit ADD COLUMN over_since BIGINT;
CREATE INDEX countersign_token_expires_at ON countersign_token (expires_at);

-- One row: which database this is, and for how long it was open, in seconds of the monotonic clock
-- of a boot.
CREATE TABLE countersign_database (
    id TEXT PRIMARY KEY,
    open_seconds BIGINT NOT NULL DEFAULT 0,
    boot TEXT,
    counted_at BIGINT
);
INSERT INTO countersign_database (id) VALUES (lower(hex(randomblob(16))));
