-- The name of the API key that made a task; none of older tasks, and of those that a
-- server of an older version made or finished.

ALTER TABLE tasks_open ADD COLUMN created_by TEXT;
ALTER TABLE tasks_done ADD COLUMN created_by TEXT;
