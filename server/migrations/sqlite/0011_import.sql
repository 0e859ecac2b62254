-- Rows that `countersign import` copied, with their values at that time. A later import recognizes
-- by them what was changed or deleted here since.
CREATE TABLE countersign_import (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    -- The values that may change, in JSON. A password hash is a digest in it.
    imported TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- The id of an imported user at its source. A user who is deleted and added again has none.
ALTER TABLE countersign_user ADD COLUMN source_id TEXT;
