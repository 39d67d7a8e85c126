-- Everything that a device or an application can name carries the organisation
-- that owns it. Times are milliseconds since the Unix epoch.

CREATE TABLE orgs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    name TEXT NOT NULL,
    rights INTEGER NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    device_id INTEGER NOT NULL,
    sn TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;
CREATE UNIQUE INDEX devices_sn ON devices (sn) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX devices_device_id ON devices (org_id, device_id) WHERE retired_at IS NULL;
CREATE INDEX devices_device_id_ever ON devices (org_id, device_id);

CREATE TABLE device_tags (
    id INTEGER PRIMARY KEY,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL REFERENCES devices (id),
    tag TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (device_key, tag)
) STRICT;
CREATE INDEX device_tags_tag ON device_tags (org_id, tag, value);

CREATE TABLE certificates (
    serial TEXT NOT NULL,
    device_key INTEGER NOT NULL REFERENCES devices (id),
    org_id INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (serial, device_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_device ON certificates (device_key);

CREATE TABLE connections (
    device_key INTEGER PRIMARY KEY REFERENCES devices (id),
    org_id INTEGER NOT NULL,
    online INTEGER NOT NULL,
    connected_at INTEGER,
    checked_at INTEGER NOT NULL,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX connections_online ON connections (online) WHERE online = 1;

CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL REFERENCES devices (id),
    -- These two repeat what the device's row says, so that no look at a task needs a join.
    device_id INTEGER NOT NULL,
    sn TEXT NOT NULL,
    ext_task_id TEXT NOT NULL,
    method_code INTEGER NOT NULL,
    method TEXT,
    priority INTEGER NOT NULL,
    push_only INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    status INTEGER NOT NULL,
    pending_at INTEGER,
    locked_at INTEGER,
    lease_until INTEGER,
    deliveries INTEGER NOT NULL,
    results INTEGER NOT NULL,
    timeline TEXT NOT NULL,
    payload TEXT
) STRICT;
-- Only open tasks are in these three, so that what they cost follows the
-- number of open tasks and not the number of tasks ever made.
CREATE INDEX tasks_open ON tasks (device_key, priority DESC, expires_at, seq) WHERE status < 3;
CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE status < 3;
CREATE INDEX tasks_lease ON tasks (lease_until) WHERE status = 2;
-- Lists, newest first.
CREATE INDEX tasks_org ON tasks (org_id, seq);
CREATE INDEX tasks_device ON tasks (org_id, device_id, seq);
CREATE INDEX tasks_ext ON tasks (org_id, ext_task_id, seq);

-- How many tasks are in each state, kept by the transactions that change it:
-- counting ten million rows at every look would take seconds.
CREATE TABLE task_counts (
    org_id INTEGER NOT NULL,
    status INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (org_id, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE results (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_seq INTEGER NOT NULL REFERENCES tasks (seq),
    org_id INTEGER NOT NULL,
    ext_id INTEGER NOT NULL,
    status_code INTEGER NOT NULL,
    body_hash INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body_kind INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX results_task ON results (task_seq, ext_id, status_code, body_hash);

CREATE TABLE idempotency (
    org_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    task_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (created_at);
