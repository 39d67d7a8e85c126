-- Nodes for which gateways speak: `state` is a name (waiting, admitted, blocked), and `address` where a node was last heard
-- from. Of a passing node, which has a new uid at each connection, `passing_at` is the server that holds that; a row
-- whose uid is @ and an address stands for all passing nodes that come from there. A server of an older version that
-- retires a node's device leaves the node without one.

CREATE TABLE nodes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    gateway TEXT COLLATE "C" NOT NULL,
    uid TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    device_key BIGINT REFERENCES devices (id),
    passing_at TEXT COLLATE "C",
    first_seen BIGINT NOT NULL,
    last_asked BIGINT NOT NULL
);
CREATE UNIQUE INDEX nodes_name ON nodes (org_id, gateway, uid);
CREATE UNIQUE INDEX nodes_device ON nodes (device_key) WHERE device_key IS NOT NULL;
-- Counting, and lists of those in a state.
CREATE INDEX nodes_state ON nodes (org_id, state, id);
CREATE INDEX nodes_waiting ON nodes (org_id, last_asked) WHERE state = 'waiting';
-- Passing nodes: those of a server, and those that come from an address.
CREATE INDEX nodes_passing_at ON nodes (passing_at) WHERE passing_at IS NOT NULL;
CREATE INDEX nodes_passing_from ON nodes (org_id, gateway, address) WHERE passing_at IS NOT NULL;
