-- People. `name` is what one signs in with, in small letters; `password` is its Argon2id hash in the PHC form. `link` is the
-- digest of a link with which the person sets a password, good until `link_until`. `user_orgs` has the organisations that a
-- person is in: its role there, and whether it may also do so for every organisation (0 or 1). `user_sessions` are those in
-- which people have signed in, by the digest of what the browser shows. `user_identities` says whom a provider means by a
-- subject.

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    password TEXT,
    link BLOB UNIQUE,
    link_until INTEGER,
    created_at INTEGER NOT NULL,
    signed_in_at INTEGER
) STRICT;

CREATE TABLE user_orgs (
    user_id INTEGER NOT NULL REFERENCES users (id),
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    role TEXT NOT NULL,
    every_org INTEGER NOT NULL,
    PRIMARY KEY (user_id, org_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_orgs_org ON user_orgs (org_id, user_id);

CREATE TABLE user_sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id),
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    address TEXT,
    agent TEXT NOT NULL
) STRICT;
CREATE INDEX user_sessions_user ON user_sessions (user_id, last_used_at);

CREATE TABLE user_identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id),
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_identities_user ON user_identities (user_id);
