-- The name of the API key that made a task; none of older tasks.

ALTER TABLE tasks ADD COLUMN created_by TEXT;
