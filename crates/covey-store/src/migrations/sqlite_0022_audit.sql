-- The audit log: who did what (`covey_core::audit`). A row has the entries of an organisation out of a group of operations, a
-- line of JSON each, and the hash of the row before it and of itself. Rows are only ever added; what is too old goes from the
-- beginning, after the number and the hash of the last one that goes were noted as the chain's anchor.
-- Keys with orgs:admin have the new right, audit:read, too.

CREATE TABLE audit_chains (
    id INTEGER PRIMARY KEY,
    server TEXT NOT NULL UNIQUE,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    anchor INTEGER NOT NULL,
    anchor_hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_chains (id, server, number, hash, anchor, anchor_hash)
VALUES (0, '', 0, zeroblob(32), 0, zeroblob(32));

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    chain INTEGER NOT NULL,
    org_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    entries TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_at ON audit (at, chain, number);
CREATE INDEX audit_of_org ON audit (org_id, at, chain, number);

CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.number > coalesce((SELECT anchor FROM audit_chains WHERE id = OLD.chain), 0)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_chains_no_update BEFORE UPDATE ON audit_chains
WHEN NEW.id <> OLD.id OR NEW.number < OLD.number OR NEW.anchor < OLD.anchor OR NEW.anchor > NEW.number
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_chains_no_delete BEFORE DELETE ON audit_chains
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

UPDATE api_keys SET rights = rights | 2048 WHERE rights & 128 = 128;
