-- How many results of a task came when it was final, and how many bytes all of them have;
-- 0 for what was stored before, or by a server of an older version.

ALTER TABLE tasks_open ADD COLUMN late_results BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tasks_open ADD COLUMN result_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tasks_done ADD COLUMN late_results BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tasks_done ADD COLUMN result_bytes BIGINT NOT NULL DEFAULT 0;
