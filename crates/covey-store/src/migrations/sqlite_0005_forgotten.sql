-- Records up to which some of an organisation are gone: those of others may be
-- kept for longer.
CREATE TABLE records_forgotten (
    org_id INTEGER NOT NULL REFERENCES orgs (id),
    number INTEGER NOT NULL,
    PRIMARY KEY (org_id)
) STRICT, WITHOUT ROWID;
