-- TCP units that applications have listed: `name` is the uid of the node that each is, `kind` a name (read, update). A unit
-- holds one connection, so one server has the units of an organisation until an instant (`unit_gateways`).
-- Keys that had every right there was have the new ones, gateways:read and gateways:write, too.

CREATE TABLE units (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    kind TEXT NOT NULL,
    resource TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX units_name ON units (org_id, name);
CREATE UNIQUE INDEX units_address ON units (org_id, address, port);

CREATE TABLE unit_gateways (
    org_id INTEGER PRIMARY KEY REFERENCES orgs (id),
    server TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;

UPDATE api_keys SET rights = rights | 1536 WHERE rights & 511 = 511;
