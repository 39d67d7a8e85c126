//! Stores for Covey: SQLite with group commit.
