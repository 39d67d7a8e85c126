-- Nodes for which gateways speak: `state` is a name (waiting, admitted, blocked), and `address` where a node was last heard
-- from. Of a passing node, which has a new uid at each connection, `passing_at` is the server that holds that; a row
-- whose uid is @ and an address stands for all passing nodes that come from there.

CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    gateway TEXT NOT NULL,
    uid TEXT NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,
    device_key INTEGER REFERENCES devices (id),
    passing_at TEXT,
    first_seen INTEGER NOT NULL,
    last_asked INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX nodes_name ON nodes (org_id, gateway, uid);
CREATE UNIQUE INDEX nodes_device ON nodes (device_key) WHERE device_key IS NOT NULL;
-- Counting, and lists of those in a state.
CREATE INDEX nodes_state ON nodes (org_id, state, id);
CREATE INDEX nodes_waiting ON nodes (org_id, last_asked) WHERE state = 'waiting';
-- Passing nodes: those of a server, and those that come from an address.
CREATE INDEX nodes_passing_at ON nodes (passing_at) WHERE passing_at IS NOT NULL;
CREATE INDEX nodes_passing_from ON nodes (org_id, gateway, address) WHERE passing_at IS NOT NULL;
