-- The public keys with which the servers of a deployment sign tokens: `jwk` is the key as JSON, `server` the name of whose it
-- is; a server signs with it until one instant, and tokens that it has signed are taken until another, in milliseconds.

CREATE TABLE token_keys (
    id TEXT PRIMARY KEY,
    server TEXT NOT NULL,
    jwk TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    signs_until INTEGER NOT NULL,
    valid_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
