-- Events, gauges, and the outbox: one record of each change, numbered in the
-- order of the commits. An event's id is the number of its record.

CREATE TABLE records (
    number INTEGER PRIMARY KEY,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    sn TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    -- Of a task or a result.
    task_id BLOB,
    result_id INTEGER,
    -- The state of a task; whether a device is connected; the side of a twin.
    status INTEGER,
    -- The cause of a task's change; the reason of a presence; the resource of a twin.
    name TEXT,
    version INTEGER,
    value TEXT
) STRICT;
CREATE INDEX records_org ON records (org_id, number);

-- The last number that was given: numbers are never given twice, even if the
-- records that had them are forgotten.
CREATE TABLE record_head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO record_head (only, number) VALUES (1, 0);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    sn TEXT NOT NULL,
    type_code INTEGER NOT NULL,
    dev_event_id INTEGER NOT NULL,
    dev_timestamp INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    correlation BLOB,
    payload TEXT NOT NULL
) STRICT;
-- Time first: what comes now is then written side by side, whichever device sent it.
CREATE UNIQUE INDEX events_once ON events (dev_timestamp, device_key, dev_event_id)
    WHERE dev_event_id <> 0 AND type_code >= 0;
CREATE INDEX events_org ON events (org_id, id);
CREATE INDEX events_device ON events (org_id, device_id, id);

-- How many events each organisation has, kept by the transactions that change it.
CREATE TABLE event_counts (
    org_id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;

CREATE TABLE gauges (
    device_key INTEGER NOT NULL REFERENCES devices (id),
    type_code INTEGER NOT NULL,
    org_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (device_key, type_code)
) STRICT, WITHOUT ROWID;
CREATE INDEX gauges_org ON gauges (org_id, device_id, type_code);

-- How far each caller has read the events of a device; of all with device 0.
CREATE TABLE event_offsets (
    caller_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (caller_id, device_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE twins (
    device_key INTEGER PRIMARY KEY REFERENCES devices (id),
    reported_version INTEGER NOT NULL,
    desired_version INTEGER NOT NULL
) STRICT;

CREATE TABLE twin_resources (
    device_key INTEGER NOT NULL REFERENCES devices (id),
    name TEXT NOT NULL,
    reported TEXT,
    reported_version INTEGER,
    reported_at INTEGER,
    desired TEXT,
    desired_version INTEGER,
    desired_at INTEGER,
    desired_task BLOB,
    PRIMARY KEY (device_key, name)
) STRICT, WITHOUT ROWID;

-- What was reported; no value when it was removed.
CREATE TABLE twin_history (
    id INTEGER PRIMARY KEY,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    value TEXT
) STRICT;
CREATE INDEX twin_history_resource ON twin_history (device_key, name, version);

-- What organisations keep for a time of their own, in days; 0 means for ever.
CREATE TABLE retention (
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    kept TEXT NOT NULL,
    days INTEGER NOT NULL,
    PRIMARY KEY (org_id, kept)
) STRICT, WITHOUT ROWID;

-- Why a connection ended, and what was told of it: `told_due` is when something
-- that was not told at once is to be told.
ALTER TABLE connections ADD COLUMN reason TEXT NOT NULL DEFAULT 'unknown';
ALTER TABLE connections ADD COLUMN told_online INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN told_changes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN told_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE connections ADD COLUMN told_due INTEGER;
UPDATE connections SET told_online = online;
CREATE INDEX connections_due ON connections (told_due) WHERE told_due IS NOT NULL;
CREATE INDEX connections_server ON connections (server) WHERE online = 1;

-- Keys that had every right there was have those that are new, too.
UPDATE api_keys SET rights = rights | 96 WHERE rights & 31 = 31;
