-- Limits of organisations (kind 0) and of API keys (kind 1) of their own, as `covey_core::own_limits` writes them. Servers look
-- for changes by how many rows there are and by the sum of their instants, so no row goes and each change has a later instant.
-- A server of an older version goes by none of them.

CREATE TABLE own_limits (
    kind SMALLINT NOT NULL,
    id BIGINT NOT NULL,
    limits TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
