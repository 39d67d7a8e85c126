-- How many bytes devices and organisations have stored, by what they are and by the day of it, from this
-- version on; what is older than it is not counted. Each writer has rows of its own, so that none waits for another.

CREATE TABLE device_kept_bytes (
    device_key BIGINT NOT NULL,
    kept SMALLINT NOT NULL,
    day BIGINT NOT NULL,
    slot INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (device_key, kept, day, slot)
) WITH (fillfactor = 70);
CREATE INDEX device_kept_bytes_day ON device_kept_bytes (kept, day);

CREATE TABLE org_kept_bytes (
    org_id BIGINT NOT NULL,
    kept SMALLINT NOT NULL,
    day BIGINT NOT NULL,
    slot INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (org_id, kept, day, slot)
) WITH (fillfactor = 70);

-- Up to which record of a writer these have what it stored (`covey_core::quota::Counted`). A server of an older
-- version counts nothing, and does not say of records who wrote them.
CREATE TABLE kept_counted (
    writer INTEGER PRIMARY KEY,
    counted BIGINT NOT NULL,
    marked BIGINT NOT NULL,
    parts SMALLINT NOT NULL
) WITH (fillfactor = 10);
ALTER TABLE records ADD COLUMN writer INTEGER;
