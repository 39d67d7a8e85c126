-- Which connection of a device is meant, and which server holds it: a late word
-- of an earlier connection must not end a later one.

ALTER TABLE connections ADD COLUMN session TEXT NOT NULL DEFAULT '';
ALTER TABLE connections ADD COLUMN server TEXT NOT NULL DEFAULT '';
