-- The last good key set of each provider, for a start while the provider is down.
CREATE TABLE countersign_key_set (
    section TEXT NOT NULL,
    issuer TEXT NOT NULL,
    -- A digest of the location and of what authenticates it.
    source TEXT NOT NULL,
    -- Public keys, as a JWK Set.
    keys TEXT NOT NULL,
    fetched_at BIGINT NOT NULL,
    PRIMARY KEY (section, issuer, source)
);
