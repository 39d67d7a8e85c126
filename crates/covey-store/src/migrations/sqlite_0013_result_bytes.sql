-- How many results of a task came when it was final, and how many bytes all of them have;
-- 0 for what was stored before.

ALTER TABLE tasks ADD COLUMN late_results INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN result_bytes INTEGER NOT NULL DEFAULT 0;
