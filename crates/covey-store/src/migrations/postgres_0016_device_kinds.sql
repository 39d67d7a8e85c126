-- What a device speaks: 0 tasks and events, 1 the calls of a microcontroller. A server of an older version
-- lets such a device in and no topic of its own.

ALTER TABLE devices ADD COLUMN kind BIGINT NOT NULL DEFAULT 0;
