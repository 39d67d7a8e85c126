-- The public keys with which the servers of a deployment sign tokens: `jwk` is the key as JSON, `server` the name of whose it
-- is; a server signs with it until one instant, and tokens that it has signed are taken until another, in milliseconds.

CREATE TABLE token_keys (
    id TEXT COLLATE "C" PRIMARY KEY,
    server TEXT COLLATE "C" NOT NULL,
    jwk TEXT COLLATE "C" NOT NULL,
    made_at BIGINT NOT NULL,
    signs_until BIGINT NOT NULL,
    valid_until BIGINT NOT NULL
);
