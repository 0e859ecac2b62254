-- Every id that an environment has had, so that none is used again: tokens that are scoped to a
-- deleted environment must not be valid in another one.
CREATE TABLE countersign_environment_id (
    id TEXT PRIMARY KEY
);
INSERT INTO countersign_environment_id (id) SELECT id FROM countersign_environment;

-- Idempotent tokens have no jti. They are registered under an id made of this digest, by which
-- they are revoked.
ALTER TABLE countersign_token ADD COLUMN signing_input_sha256 TEXT;
