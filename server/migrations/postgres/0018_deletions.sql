-- Rows of access tokens stay after the deletion of their login method, and are deleted in parts.
ALTER TABLE countersign_identity_token DROP CONSTRAINT countersign_identity_token_method_fkey;
