-- Until when, and from where, an API key may be used: an instant in milliseconds, and ranges of addresses with a space
-- between two; none of either for a key that is valid always, and from anywhere. A server of an older version looks at
-- neither.

ALTER TABLE api_keys ADD COLUMN expires_at BIGINT, ADD COLUMN addresses TEXT;
