-- Whether a webhook's events go to its URL with the device's number at the end of the path.

ALTER TABLE webhooks ADD COLUMN device_id_in_path INTEGER NOT NULL DEFAULT 0;
