-- What a device speaks: 0 tasks and events, 1 the calls of a microcontroller.

ALTER TABLE devices ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
