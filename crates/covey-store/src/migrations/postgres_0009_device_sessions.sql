-- What is kept of devices' sessions: `subscriptions` is JSON, an array of [filter, QoS, identifier]; `expiry_s` is 0 when
-- the session has ended. When the device went stands in `connections`. A server of an older version keeps sessions
-- in its memory alone.

CREATE TABLE device_sessions (
    device_key BIGINT PRIMARY KEY REFERENCES devices (id),
    org_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    expiry_s BIGINT NOT NULL,
    subscriptions TEXT NOT NULL
) WITH (fillfactor = 70);
