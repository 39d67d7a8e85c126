-- Whether a webhook's events go to its URL with the device's number at the end of the path. A server of an
-- older version sends them to the URL as it is.

ALTER TABLE webhooks ADD COLUMN device_id_in_path BOOLEAN NOT NULL DEFAULT false;
