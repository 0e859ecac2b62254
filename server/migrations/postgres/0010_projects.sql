CREATE TABLE countersign_project (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE
);
-- Earlier versions stored only the ids of projects. Environments that were created without one
-- belong to that of the nil UUID.
INSERT INTO countersign_project (id, name)
    SELECT DISTINCT project_id,
        CASE project_id
            WHEN '00000000-0000-0000-0000-000000000000' THEN 'default'
            ELSE project_id
        END
    FROM countersign_environment;

-- Texts can be compared only if both have the same collation.
ALTER TABLE countersign_environment ALTER COLUMN project_id TYPE TEXT COLLATE "C";
ALTER TABLE countersign_environment ADD COLUMN repo_url TEXT NOT NULL DEFAULT '';
ALTER TABLE countersign_environment ADD COLUMN repo_branch TEXT NOT NULL DEFAULT '';
ALTER TABLE countersign_environment ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE countersign_environment ADD COLUMN icon TEXT NOT NULL DEFAULT '';

ALTER TABLE countersign_audit ADD COLUMN project TEXT;
