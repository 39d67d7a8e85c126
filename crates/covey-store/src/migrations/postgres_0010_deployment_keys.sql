-- Which certificate stands for a key, so that its rights end with the device whose certificate it is. And the right
-- orgs:admin (128): keys that may make keys (16) could do so for every organisation, and go on to.

ALTER TABLE api_keys ADD COLUMN certificate_serial TEXT COLLATE "C";
UPDATE api_keys SET rights = rights | 128 WHERE rights & 16 <> 0;
