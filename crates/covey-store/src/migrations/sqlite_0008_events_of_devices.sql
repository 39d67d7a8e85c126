-- Counted are the events that devices sent. What a server notes of devices has a type below 0.

UPDATE event_counts SET count = count
    - (SELECT count(*) FROM events e WHERE e.org_id = event_counts.org_id AND e.type_code < 0);
