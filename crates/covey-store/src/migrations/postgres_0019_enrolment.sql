-- Claims, by which devices of a production enrol. `certificate` is the serial number of the claim's certificate,
-- `devices_max` for how many devices it is, `used` how many have enrolled and were not released. `claim_serials` has the
-- serial numbers that are listed, and those that have enrolled: as which device, and with which public key (SHA-256).
-- `claim_uses` has every certificate that was issued by a claim.

CREATE TABLE claims (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    certificate TEXT COLLATE "C" NOT NULL,
    pattern TEXT COLLATE "C",
    devices_max BIGINT NOT NULL,
    used BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX claims_certificate ON claims (certificate);
CREATE INDEX claims_org ON claims (org_id, id);

CREATE TABLE claim_serials (
    claim_id BIGINT NOT NULL REFERENCES claims (id),
    sn TEXT COLLATE "C" NOT NULL,
    device_key BIGINT REFERENCES devices (id),
    key_sha256 BYTEA,
    used_at BIGINT,
    released_at BIGINT,
    PRIMARY KEY (claim_id, sn)
);

CREATE TABLE claim_uses (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    claim_id BIGINT NOT NULL REFERENCES claims (id),
    sn TEXT COLLATE "C" NOT NULL,
    device_key BIGINT NOT NULL REFERENCES devices (id),
    certificate TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C",
    used_at BIGINT NOT NULL
);
CREATE INDEX claim_uses_claim ON claim_uses (claim_id, sn, id);
