-- What an API key may do with some devices alone: a JSON array of [rights, [[tag, value]], [method], [kind], [type of
-- event]] for each grant; none for a key whose rights hold for the whole organisation.

ALTER TABLE api_keys ADD COLUMN grants TEXT;
