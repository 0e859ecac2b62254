-- Ids of the databases that this one replaced by `countersign database restore`.
CREATE TABLE countersign_predecessor (
    id TEXT COLLATE "C" PRIMARY KEY
);

-- Revocations that could not be read, and that `countersign revocations repair` moved here.
CREATE TABLE countersign_damaged_revocation (
    number BIGINT NOT NULL,
    record TEXT NOT NULL
);
