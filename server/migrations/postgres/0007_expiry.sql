-- The end of a revocation, which its record has too. A record that is damaged has none, and stays.
ALTER TABLE countersign_revocation ADD COLUMN until BIGINT;
DO $$
BEGIN
    UPDATE countersign_revocation
        SET until = least((record::json ->> 'until')::numeric, 9223372036854775807)::bigint;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'a record of countersign_revocation is damaged';
END
$$;
CREATE INDEX countersign_revocation_until ON countersign_revocation (until);
CREATE INDEX countersign_token_expires_at ON countersign_token (expires_at);

-- One row: which database this is.
CREATE TABLE countersign_database (
    id TEXT COLLATE "C" PRIMARY KEY
);
INSERT INTO countersign_database (id) VALUES (gen_random_uuid()::text);
