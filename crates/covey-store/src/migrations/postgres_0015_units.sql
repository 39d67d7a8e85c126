-- TCP units that applications have listed: `name` is the uid of the node that each is, `kind` a name (read, update). A unit
-- holds one connection, so one server has the units of an organisation until an instant (`unit_gateways`).
-- Keys that had every right there was have the new ones, gateways:read and gateways:write, too.

CREATE TABLE units (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    name TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    port BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX units_name ON units (org_id, name);
CREATE UNIQUE INDEX units_address ON units (org_id, address, port);

CREATE TABLE unit_gateways (
    org_id BIGINT PRIMARY KEY REFERENCES orgs (id),
    server TEXT COLLATE "C" NOT NULL,
    until BIGINT NOT NULL
);

UPDATE api_keys SET rights = rights | 1536 WHERE rights & 511 = 511;
