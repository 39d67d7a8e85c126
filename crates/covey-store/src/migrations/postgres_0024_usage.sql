-- What organisations have used on each day, by UTC, from this version on (`covey_core::usage`); and which devices were heard
-- on the last days: once a day is over their number goes into `active_devices`. Each writer has rows of its own, so that none
-- waits for another. A server of an older version counts nothing.

CREATE TABLE usage_days (
    org_id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    slot INTEGER NOT NULL,
    tasks_created BIGINT NOT NULL,
    tasks_finished BIGINT NOT NULL,
    events BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    active_devices BIGINT NOT NULL,
    PRIMARY KEY (org_id, day, slot)
) WITH (fillfactor = 50);
CREATE INDEX usage_days_day ON usage_days (day);

CREATE TABLE usage_devices (
    day BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    device_key BIGINT NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (day, org_id, device_key, slot)
);
