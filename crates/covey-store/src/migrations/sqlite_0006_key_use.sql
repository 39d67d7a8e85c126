-- When an API key was last used, as of about a minute ago.

ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER;
