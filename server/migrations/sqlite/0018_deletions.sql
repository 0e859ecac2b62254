-- Rows of access tokens stay after the deletion of their login method, and are deleted in parts.
-- The foreign key would delete all of them in one transaction, in which nothing else can be
-- written. The rows are as before, so that the table need not be copied, which would take longer
-- than a start of the server waits: https://sqlite.org/lang_altertable.html, section 7.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
    SET sql = replace(sql, ' REFERENCES countersign_identity_method ON DELETE CASCADE', '')
    WHERE type = 'table' AND name = 'countersign_identity_token';
PRAGMA writable_schema = RESET;
-- An ordinary change of the schema, by which other connections notice this one.
CREATE TABLE countersign_schema_change (id INTEGER);
DROP TABLE countersign_schema_change;
