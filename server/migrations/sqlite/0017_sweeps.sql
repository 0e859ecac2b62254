-- Rows that a sweep has to mark, to unmark and to delete, so that it looks at no others.
CREATE INDEX countersign_identity_token_unmarked ON countersign_identity_token (expires_at)
    WHERE over_since IS NULL;
CREATE INDEX countersign_identity_token_marked ON countersign_identity_token (expires_at)
    WHERE over_since IS NOT NULL;
CREATE INDEX countersign_identity_token_over_since ON countersign_identity_token (over_since)
    WHERE over_since IS NOT NULL;
