-- What is kept of devices' sessions: `subscriptions` is JSON, an array of [filter, QoS, identifier]; `expiry_s` is 0 when
-- the session has ended. When the device went stands in `connections`.

CREATE TABLE device_sessions (
    device_key INTEGER PRIMARY KEY REFERENCES devices (id),
    org_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    expiry_s INTEGER NOT NULL,
    subscriptions TEXT NOT NULL
) STRICT;
