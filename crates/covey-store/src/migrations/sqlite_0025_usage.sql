-- What organisations have used on each day, by UTC, from this version on (`covey_core::usage`); and which devices were heard
-- on the last days: once a day is over their number goes into `active_devices`.

CREATE TABLE usage_days (
    org_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    tasks_created INTEGER NOT NULL,
    tasks_finished INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    active_devices INTEGER NOT NULL,
    PRIMARY KEY (org_id, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_days_day ON usage_days (day);

CREATE TABLE usage_devices (
    day INTEGER NOT NULL,
    org_id INTEGER NOT NULL,
    device_key INTEGER NOT NULL,
    PRIMARY KEY (day, org_id, device_key)
) STRICT, WITHOUT ROWID;
