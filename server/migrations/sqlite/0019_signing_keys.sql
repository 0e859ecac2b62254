-- The key that signs, of each section that was rotated, by its id: servers with several keys agree on
-- one. Without a row, it is the option `key`.
CREATE TABLE countersign_signing_key (
    section TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    since BIGINT NOT NULL
);
-- Ids of the keys that a server verifies tokens of its signing section with, in JSON.
ALTER TABLE countersign_server ADD COLUMN verified_keys TEXT;
