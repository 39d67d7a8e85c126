-- Why a certificate was revoked, as a number of RFC 5280 section 5.3.1. Those before were, with their device, which was
-- retired: cessation of operation.

ALTER TABLE certificates ADD COLUMN reason INT8;
UPDATE certificates SET reason = 5 WHERE revoked_at IS NOT NULL;
CREATE INDEX certificates_revoked ON certificates (revoked_at, serial) WHERE revoked_at IS NOT NULL;
CREATE INDEX certificates_end ON certificates (org_id, not_after, serial);
