-- The leases that make up `held`, as `|id|` each, so that the end of one counts once.
ALTER TABLE countersign_identity_token ADD COLUMN leases TEXT NOT NULL DEFAULT '';
