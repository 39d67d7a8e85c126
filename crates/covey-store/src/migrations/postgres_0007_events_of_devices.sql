-- Counted are the events that devices sent. What a server notes of devices has a type below 0.
-- A server of an older version counts both: what it notes during a rolling upgrade stays counted.

INSERT INTO event_counts AS c (org_id, slot, count)
    SELECT org_id, -1, -count(*) FROM events WHERE type_code < 0 GROUP BY org_id
    ON CONFLICT (org_id, slot) DO UPDATE SET count = c.count + excluded.count;
