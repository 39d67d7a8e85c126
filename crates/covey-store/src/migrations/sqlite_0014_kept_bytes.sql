-- How many bytes devices and organisations have stored, by what they are and by the day of it, from this
-- version on; what is older than it is not counted.

CREATE TABLE device_kept_bytes (
    device_key INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    day INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (device_key, kept, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_kept_bytes_day ON device_kept_bytes (kept, day);

CREATE TABLE org_kept_bytes (
    org_id INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    day INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (org_id, kept, day)
) STRICT, WITHOUT ROWID;

-- Up to which record these have what was stored (`covey_core::quota::Counted`): one row, of the last server.
CREATE TABLE kept_counted (
    writer INTEGER PRIMARY KEY,
    counted INTEGER NOT NULL,
    marked INTEGER NOT NULL,
    parts INTEGER NOT NULL
) STRICT;
