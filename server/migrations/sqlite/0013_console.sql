-- Sessions of the console.
CREATE TABLE countersign_console_session (
    -- SHA-256 of the id in the cookie, in hexadecimal.
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    -- The section of the issuer of its token.
    section TEXT NOT NULL,
    -- Its tokens, encrypted with a key that is derived from the id in the cookie.
    sealed TEXT NOT NULL,
    -- The subject and the session at an OpenID provider.
    subject TEXT,
    provider_session TEXT,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    -- Time of the last check of the password, or of the last sign-in at the provider.
    authenticated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- Until then, one request may renew the tokens; null if none does.
    renewal_until BIGINT,
    over_since BIGINT
);
CREATE INDEX countersign_console_session_expires_at ON countersign_console_session (expires_at);
CREATE INDEX countersign_console_session_subject ON countersign_console_session (section, subject);
CREATE INDEX countersign_console_session_provider
    ON countersign_console_session (section, provider_session);
