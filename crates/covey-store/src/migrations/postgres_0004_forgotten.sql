-- Records up to which some of an organisation are gone: those of others may be
-- kept for longer.
CREATE TABLE records_forgotten (
    org_id BIGINT PRIMARY KEY REFERENCES orgs (id),
    number BIGINT NOT NULL
);
