-- The indexes of this step are for SQLite. In PostgreSQL, sweeps mark no rows.
SELECT 1;
