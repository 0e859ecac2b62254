-- Number of changes that were confirmed in a session. A confirmation has the number before it, so
-- that it is used once.
ALTER TABLE countersign_console_session ADD COLUMN confirmations BIGINT NOT NULL DEFAULT 0;
