-- Logout tokens that OpenID providers sent, each of which is used once.
CREATE TABLE countersign_logout_token (
    -- SHA-256 of the issuer and the id of the token, in hexadecimal.
    id TEXT COLLATE "C" PRIMARY KEY,
    -- Time from which the token is refused for its age.
    expires_at BIGINT NOT NULL
);
CREATE INDEX countersign_logout_token_expires_at ON countersign_logout_token (expires_at);
