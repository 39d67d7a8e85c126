-- Claims, by which devices of a production enrol. `certificate` is the serial number of the claim's certificate,
-- `devices_max` for how many devices it is, `used` how many have enrolled and were not released. `claim_serials` has the
-- serial numbers that are listed, and those that have enrolled: as which device, and with which public key (SHA-256).
-- `claim_uses` has every certificate that was issued by a claim.

CREATE TABLE claims (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    certificate TEXT NOT NULL,
    pattern TEXT,
    devices_max INTEGER NOT NULL,
    used INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE UNIQUE INDEX claims_certificate ON claims (certificate);
CREATE INDEX claims_org ON claims (org_id, id);

CREATE TABLE claim_serials (
    claim_id INTEGER NOT NULL REFERENCES claims (id),
    sn TEXT NOT NULL,
    device_key INTEGER REFERENCES devices (id),
    key_sha256 BLOB,
    used_at INTEGER,
    released_at INTEGER,
    PRIMARY KEY (claim_id, sn)
) STRICT, WITHOUT ROWID;

CREATE TABLE claim_uses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    claim_id INTEGER NOT NULL REFERENCES claims (id),
    sn TEXT NOT NULL,
    device_key INTEGER NOT NULL REFERENCES devices (id),
    certificate TEXT NOT NULL,
    address TEXT,
    used_at INTEGER NOT NULL
) STRICT;
CREATE INDEX claim_uses_claim ON claim_uses (claim_id, sn, id);
