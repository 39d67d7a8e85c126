-- Limits of organisations (kind 0) and of API keys (kind 1) of their own, as `covey_core::own_limits` writes them. Servers look
-- for changes by how many rows there are and by the sum of their instants, so no row goes and each change has a later instant.

CREATE TABLE own_limits (
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    limits TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
