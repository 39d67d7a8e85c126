-- Webhooks: where an application is told of records, how far each endpoint has
-- come, the letters that wait or were given up, and a log of what was tried.

CREATE TABLE webhooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org_id INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    is_default INTEGER NOT NULL,
    version INTEGER NOT NULL,
    url TEXT NOT NULL,
    -- [[name, value], …] as JSON.
    headers TEXT NOT NULL,
    is_active INTEGER NOT NULL,
    -- [devices, [[tag, value], …], event types] as JSON.
    filter TEXT NOT NULL,
    format TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    secret TEXT NOT NULL,
    old_secret TEXT,
    old_secret_until INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX webhooks_default ON webhooks (org_id, event_type)
    WHERE is_default = 1 AND deleted_at IS NULL;
CREATE INDEX webhooks_org ON webhooks (org_id, id) WHERE deleted_at IS NULL;
CREATE INDEX webhooks_deleted ON webhooks (id) WHERE deleted_at IS NOT NULL;

-- What changes all the time of an endpoint.
CREATE TABLE webhook_progress (
    webhook_id INTEGER PRIMARY KEY REFERENCES webhooks (id),
    -- Everything up to this record is settled.
    position INTEGER NOT NULL,
    parked INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    -- How often letters were put back for another try.
    resends INTEGER NOT NULL DEFAULT 0,
    -- The last number that was given in the log.
    log_head INTEGER NOT NULL DEFAULT 0,
    open_since INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    last_delivered_at INTEGER,
    -- The server that tells it, what tells this run of it from others, and until when.
    holder TEXT,
    holder_nonce INTEGER,
    held_until INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Letters that wait for another try (state 0) or were given up (state 1), each
-- with a copy of its record, which is kept for a shorter time.
CREATE TABLE webhook_letters (
    webhook_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    state INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_status INTEGER,
    last_error TEXT,
    died_at INTEGER,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    sn TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    task_id BLOB,
    result_id INTEGER,
    status INTEGER,
    name TEXT,
    version INTEGER,
    value TEXT,
    PRIMARY KEY (webhook_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_letters_lanes ON webhook_letters (webhook_id, device_key, number) WHERE state = 0;
CREATE INDEX webhook_letters_dead ON webhook_letters (webhook_id, number) WHERE state = 1;
CREATE INDEX webhook_letters_died ON webhook_letters (died_at) WHERE state = 1;

CREATE TABLE webhook_deliveries (
    webhook_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    -- Of a test there are none.
    number INTEGER,
    device_id INTEGER,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status INTEGER,
    error TEXT,
    outcome TEXT NOT NULL,
    PRIMARY KEY (webhook_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_deliveries_at ON webhook_deliveries (at);
