-- Until when, and from where, an API key may be used: an instant in milliseconds, and ranges of addresses with a space
-- between two; none of either for a key that is valid always, and from anywhere.

ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;
ALTER TABLE api_keys ADD COLUMN addresses TEXT;
