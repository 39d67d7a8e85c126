-- People. `name` is what one signs in with, in small letters; `password` is its Argon2id hash in the PHC form. `link` is the
-- digest of a link with which the person sets a password, good until `link_until`. `user_orgs` has the organisations that a
-- person is in: its role there, and whether it may also do so for every organisation (0 or 1). `user_sessions` are those in
-- which people have signed in, by the digest of what the browser shows. `user_identities` says whom a provider means by a
-- subject.

CREATE TABLE users (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    password TEXT COLLATE "C",
    link BYTEA UNIQUE,
    link_until BIGINT,
    created_at BIGINT NOT NULL,
    signed_in_at BIGINT
);

CREATE TABLE user_orgs (
    user_id BIGINT NOT NULL REFERENCES users (id),
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    role TEXT COLLATE "C" NOT NULL,
    every_org BIGINT NOT NULL,
    PRIMARY KEY (user_id, org_id)
);
CREATE INDEX user_orgs_org ON user_orgs (org_id, user_id);

CREATE TABLE user_sessions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id),
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    digest BYTEA NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT COLLATE "C",
    agent TEXT NOT NULL
);
CREATE INDEX user_sessions_user ON user_sessions (user_id, last_used_at);

CREATE TABLE user_identities (
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX user_identities_user ON user_identities (user_id);
