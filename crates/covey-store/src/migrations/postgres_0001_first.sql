-- Everything that a device or an application can name carries the organisation
-- that owns it. Times are milliseconds since the Unix epoch. Text is compared
-- byte by byte, as the store on SQLite does.

CREATE TABLE deployment (
    key TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE orgs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    rights BIGINT NOT NULL,
    digest BYTEA NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE devices (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    device_id BIGINT NOT NULL,
    sn TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX devices_sn ON devices (sn) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX devices_device_id ON devices (org_id, device_id) WHERE retired_at IS NULL;
CREATE INDEX devices_device_id_ever ON devices (org_id, device_id);

CREATE TABLE device_tags (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL REFERENCES devices (id),
    tag TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    UNIQUE (device_key, tag)
);
-- A value may have 1,024 characters of four bytes, an entry of an index 2,700
-- bytes: the value's beginning is enough to search by.
CREATE INDEX device_tags_tag ON device_tags (org_id, tag, left(value, 64));

CREATE TABLE certificates (
    serial TEXT COLLATE "C" NOT NULL,
    device_key BIGINT NOT NULL REFERENCES devices (id),
    org_id BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (serial, device_key)
);
CREATE INDEX certificates_device ON certificates (device_key);

CREATE TABLE connections (
    device_key BIGINT PRIMARY KEY REFERENCES devices (id),
    org_id BIGINT NOT NULL,
    online BOOLEAN NOT NULL,
    connected_at BIGINT,
    checked_at BIGINT NOT NULL,
    details TEXT NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX connections_online ON connections (device_key) WHERE online;
CREATE INDEX connections_server ON connections (server) WHERE online;

CREATE SEQUENCE task_seq;
CREATE SEQUENCE result_seq;

-- Tasks that are not final: few, and often changed. One that becomes final
-- moves to `tasks_done` in the same transaction. No foreign keys here: each
-- would lock a row of another table for every new task.
CREATE TABLE tasks_open (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    -- These two repeat what the device's row says, so that no look at a task needs a join.
    device_id BIGINT NOT NULL,
    sn TEXT COLLATE "C" NOT NULL,
    ext_task_id TEXT COLLATE "C" NOT NULL,
    method_code INTEGER NOT NULL,
    method TEXT,
    priority SMALLINT NOT NULL,
    push_only BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    status SMALLINT NOT NULL CHECK (status < 3),
    pending_at BIGINT,
    locked_at BIGINT,
    lease_until BIGINT,
    deliveries BIGINT NOT NULL,
    results BIGINT NOT NULL,
    timeline TEXT NOT NULL,
    payload TEXT
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX tasks_open_rank ON tasks_open (device_key, priority DESC, expires_at, seq);
CREATE INDEX tasks_open_expiry ON tasks_open (expires_at);
CREATE INDEX tasks_open_lease ON tasks_open (lease_until, seq) WHERE status = 2;
CREATE INDEX tasks_open_org ON tasks_open (org_id, seq);

-- Final tasks, by ranges of their ids: an id is a UUIDv7, whose first 48 bits
-- are the milliseconds of its making, so a range of ids is a span of time.
CREATE TABLE tasks_done (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    sn TEXT COLLATE "C" NOT NULL,
    ext_task_id TEXT COLLATE "C" NOT NULL,
    method_code INTEGER NOT NULL,
    method TEXT,
    priority SMALLINT NOT NULL,
    push_only BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    status SMALLINT NOT NULL CHECK (status >= 3),
    pending_at BIGINT,
    locked_at BIGINT,
    lease_until BIGINT,
    deliveries BIGINT NOT NULL,
    results BIGINT NOT NULL,
    timeline TEXT NOT NULL,
    payload TEXT
) PARTITION BY RANGE (id);
CREATE INDEX tasks_done_org ON tasks_done (org_id, seq);
CREATE INDEX tasks_done_device ON tasks_done (org_id, device_id, seq);
-- 256 characters of four bytes fit into an entry of an index.
CREATE INDEX tasks_done_ext ON tasks_done (org_id, ext_task_id, seq);
-- For ids that are no UUIDv7, or of a time for which no partition was made.
CREATE TABLE tasks_done_default PARTITION OF tasks_done DEFAULT;
CREATE INDEX tasks_done_default_age ON tasks_done_default (created_at);

-- One index serves the search for a repeated result and the list of a task's
-- results. A body is kept as bytes: a device may send a NUL, which text cannot hold.
CREATE TABLE results (
    task_id UUID NOT NULL,
    id BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    ext_id BIGINT NOT NULL,
    status_code BIGINT NOT NULL,
    body_hash BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    body_kind SMALLINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (task_id, ext_id, status_code, body_hash, id)
) PARTITION BY RANGE (task_id);
CREATE TABLE results_default PARTITION OF results DEFAULT;

-- How many tasks are in each state, as changes that are summed when they are
-- read: each writer has rows of its own, so that none waits for another.
CREATE TABLE task_counts (
    org_id BIGINT NOT NULL,
    status SMALLINT NOT NULL,
    slot INTEGER NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (org_id, status, slot)
) WITH (fillfactor = 50);

-- The number of the last group that each writer committed: what a writer asks
-- when its connection was lost during a commit.
CREATE TABLE writers (
    id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server TEXT NOT NULL,
    group_number BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 10);

CREATE TABLE servers (
    id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    started_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE idempotency (
    org_id BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    request_digest BYTEA NOT NULL,
    task_id UUID NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
