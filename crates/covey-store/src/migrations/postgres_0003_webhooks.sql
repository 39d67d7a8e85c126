-- Webhooks: where an application is told of records, how far each endpoint has
-- come, the letters that wait or were given up, and a log of what was tried.

CREATE TABLE webhooks (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL,
    event_type TEXT COLLATE "C" NOT NULL,
    is_default BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    url TEXT NOT NULL,
    -- [[name, value], …] as JSON.
    headers TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    -- [devices, [[tag, value], …], event types] as JSON.
    filter TEXT NOT NULL,
    format TEXT NOT NULL,
    concurrency INTEGER NOT NULL,
    secret TEXT NOT NULL,
    old_secret TEXT,
    old_secret_until BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX webhooks_default ON webhooks (org_id, event_type) WHERE is_default AND deleted_at IS NULL;
CREATE INDEX webhooks_org ON webhooks (org_id, id) WHERE deleted_at IS NULL;
CREATE INDEX webhooks_deleted ON webhooks (id) WHERE deleted_at IS NOT NULL;

-- What changes all the time of an endpoint; no column that changes is in an
-- index, so that rows are changed in their place.
CREATE TABLE webhook_progress (
    webhook_id BIGINT PRIMARY KEY,
    -- Everything up to this record is settled.
    position BIGINT NOT NULL,
    parked BIGINT NOT NULL DEFAULT 0,
    dead BIGINT NOT NULL DEFAULT 0,
    -- How often letters were put back for another try.
    resends BIGINT NOT NULL DEFAULT 0,
    -- The last number that was given in the log.
    log_head BIGINT NOT NULL DEFAULT 0,
    open_since BIGINT,
    failures BIGINT NOT NULL DEFAULT 0,
    last_error TEXT,
    last_delivered_at BIGINT,
    -- The server that tells it, what tells this run of it from others, and until when.
    holder TEXT COLLATE "C",
    holder_nonce BIGINT,
    held_until BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

-- Letters that wait for another try (state 0) or were given up (state 1), each
-- with a copy of its record, which is kept for a shorter time.
CREATE TABLE webhook_letters (
    webhook_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    state SMALLINT NOT NULL,
    deadline BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_status INTEGER,
    last_error TEXT,
    died_at BIGINT,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    sn TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    task_id UUID,
    result_id BIGINT,
    status SMALLINT,
    name TEXT,
    version BIGINT,
    value TEXT,
    dev_timestamp BIGINT,
    PRIMARY KEY (webhook_id, number)
) WITH (fillfactor = 80);
CREATE INDEX webhook_letters_lanes ON webhook_letters (webhook_id, device_key, number) WHERE state = 0;
CREATE INDEX webhook_letters_dead ON webhook_letters (webhook_id, number) WHERE state = 1;
CREATE INDEX webhook_letters_died ON webhook_letters (died_at) WHERE state = 1;

CREATE TABLE webhook_deliveries (
    webhook_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- Of a test there are none.
    number BIGINT,
    device_id BIGINT,
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    status INTEGER,
    error TEXT,
    outcome TEXT NOT NULL,
    PRIMARY KEY (webhook_id, seq)
);
CREATE INDEX webhook_deliveries_at ON webhook_deliveries (at);
