-- Why a certificate was revoked, as a number of RFC 5280 section 5.3.1. Those before were, with their device, which was
-- retired: cessation of operation.

ALTER TABLE certificates ADD COLUMN reason INTEGER;
UPDATE certificates SET reason = 5 WHERE revoked_at IS NOT NULL;
-- The one by which a certificate was got, if it was: renewed.
ALTER TABLE certificates ADD COLUMN renewed_from TEXT;
CREATE INDEX certificates_revoked ON certificates (revoked_at, serial) WHERE revoked_at IS NOT NULL;
CREATE INDEX certificates_end ON certificates (org_id, not_after, serial);
-- Of CAs of others, by their SHA-256, which stands behind 32 digits of the CA and a tilde.
CREATE INDEX certificates_imported ON certificates (substr(serial, 34)) WHERE length(serial) = 97;
