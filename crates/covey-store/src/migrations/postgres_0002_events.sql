-- Events, gauges, and the outbox: one record of each change. An event's id is
-- the number of its record. A number is made of that of the transaction that
-- wrote it (`postgres/numbers.rs`).

-- By days, so that a day is forgotten by dropping its partition.
CREATE TABLE records (
    number BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    sn TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    -- Of a task or a result.
    task_id UUID,
    result_id BIGINT,
    -- The state of a task; whether a device is connected; the side of a twin.
    status SMALLINT,
    -- The cause of a task's change; the reason of a presence; the resource of a twin.
    name TEXT,
    version BIGINT,
    value TEXT,
    -- Of an event, so that it is sought in its month alone.
    dev_timestamp BIGINT,
    PRIMARY KEY (number, at)
) PARTITION BY RANGE (at);
CREATE INDEX records_org ON records (org_id, number);
CREATE TABLE records_default PARTITION OF records DEFAULT;

-- By months of the devices' time, which tells an event from others.
CREATE TABLE events (
    id BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    sn TEXT COLLATE "C" NOT NULL,
    type_code BIGINT NOT NULL,
    dev_event_id BIGINT NOT NULL,
    dev_timestamp BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    correlation UUID,
    payload TEXT NOT NULL
) PARTITION BY RANGE (dev_timestamp);
-- Time first: what comes now is then written side by side, whichever device sent it.
CREATE UNIQUE INDEX events_once ON events (dev_timestamp, device_key, dev_event_id)
    WHERE dev_event_id <> 0 AND type_code >= 0;
CREATE INDEX events_org ON events (org_id, id);
CREATE INDEX events_device ON events (org_id, device_id, id);
CREATE INDEX events_received ON events (org_id, device_id, received_at, id);
-- Finds what came late, when the month of its making is about to be forgotten. Of
-- rows that are never changed it takes next to no room.
CREATE INDEX events_age ON events USING brin (received_at);
-- For devices whose clock is far off.
CREATE TABLE events_default PARTITION OF events DEFAULT;

-- How many events each organisation has, as changes that are summed when they
-- are read: each writer has rows of its own, so that none waits for another.
CREATE TABLE event_counts (
    org_id BIGINT NOT NULL,
    slot INTEGER NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (org_id, slot)
) WITH (fillfactor = 50);

CREATE TABLE gauges (
    device_key BIGINT NOT NULL,
    type_code BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (device_key, type_code)
) WITH (fillfactor = 70);
CREATE INDEX gauges_org ON gauges (org_id, device_id, type_code);

-- How far each caller has read the events of a device; of all with device 0.
CREATE TABLE event_offsets (
    caller_id BIGINT NOT NULL,
    device_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (caller_id, device_id)
) WITH (fillfactor = 70);

CREATE TABLE twins (
    device_key BIGINT PRIMARY KEY,
    reported_version BIGINT NOT NULL,
    desired_version BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE twin_resources (
    device_key BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    reported TEXT,
    reported_version BIGINT,
    reported_at BIGINT,
    desired TEXT,
    desired_version BIGINT,
    desired_at BIGINT,
    desired_task UUID,
    PRIMARY KEY (device_key, name)
) WITH (fillfactor = 70);

-- What was reported; no value when it was removed.
CREATE TABLE twin_history (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    at BIGINT NOT NULL,
    value TEXT
);
CREATE INDEX twin_history_resource ON twin_history (device_key, name, version);
CREATE INDEX twin_history_age ON twin_history (org_id, at);

-- What organisations keep for a time of their own, in days; 0 means for ever.
CREATE TABLE retention (
    org_id BIGINT NOT NULL REFERENCES orgs (id),
    kept TEXT COLLATE "C" NOT NULL,
    days BIGINT NOT NULL,
    PRIMARY KEY (org_id, kept)
);
-- What is not in a partition of its own time is forgotten by organisation.
DROP INDEX tasks_done_default_age;
CREATE INDEX tasks_done_default_age ON tasks_done_default (org_id, created_at);

-- Why a connection ended, and what was told of it: `told_due` is when something
-- that was not told at once is to be told.
ALTER TABLE connections ADD COLUMN reason TEXT NOT NULL DEFAULT 'unknown';
ALTER TABLE connections ADD COLUMN told_online BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE connections ADD COLUMN told_changes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN told_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN told_due BIGINT;
UPDATE connections SET told_online = online WHERE online;
CREATE INDEX connections_due ON connections (told_due) WHERE told_due IS NOT NULL;

-- Keys that had every right there was have those that are new, too.
UPDATE api_keys SET rights = rights | 96 WHERE rights & 31 = 31;
