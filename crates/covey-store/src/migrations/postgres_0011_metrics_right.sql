-- Keys that had every right there was have the new one, metrics:read, too.

UPDATE api_keys SET rights = rights | 256 WHERE rights & 127 = 127;
