//! The migrations of both stores. Each brings a database from one version to the
//! next; a version is the place of its migration among those of that database, from 1.

/// What a release adds to the schema.
struct Migration {
    /// For SQLite, unless there is nothing to do.
    sqlite: Option<&'static str>,
    /// For PostgreSQL, unless there is nothing to do.
    postgres: Option<PostgresStep>,
}

/// A step of PostgreSQL's schema. It says which version a program must know to go on
/// working with the database that it leaves behind. So a new server can migrate while
/// old ones run: first add what the new program needs, and take away what the old one
/// needed only with a later migration.
#[derive(Clone, Copy)]
pub(crate) struct PostgresStep {
    pub(crate) sql: &'static str,
    /// The version that a program must know to work with the outcome.
    pub(crate) requires: i32,
}

/// One migration, from the files that bear its name.
macro_rules! migration {
    (sqlite: $sqlite:literal) => {
        Migration { sqlite: Some(include_str!(concat!("migrations/sqlite_", $sqlite, ".sql"))), postgres: None }
    };
    (sqlite: $sqlite:literal, postgres: $postgres:literal, requires: $requires:literal) => {
        Migration {
            postgres: Some(PostgresStep {
                sql: include_str!(concat!("migrations/postgres_", $postgres, ".sql")),
                requires: $requires,
            }),
            ..migration!(sqlite: $sqlite)
        }
    };
}

/// All of them, oldest first. One that was released stays as it is, byte for byte.
const MIGRATIONS: [Migration; 26] = [
    migration!(sqlite: "0001_first", postgres: "0001_first", requires: 1),
    migration!(sqlite: "0002_sessions"),
    // A program that writes no records would leave changes untold.
    migration!(sqlite: "0003_events", postgres: "0002_events", requires: 2),
    migration!(sqlite: "0004_webhooks", postgres: "0003_webhooks", requires: 2),
    migration!(sqlite: "0005_forgotten", postgres: "0004_forgotten", requires: 2),
    migration!(sqlite: "0006_key_use", postgres: "0005_key_use", requires: 2),
    migration!(sqlite: "0007_task_creator", postgres: "0006_task_creator", requires: 2),
    migration!(sqlite: "0008_events_of_devices", postgres: "0007_events_of_devices", requires: 2),
    migration!(sqlite: "0009_webhook_path", postgres: "0008_webhook_path", requires: 2),
    migration!(sqlite: "0010_device_sessions", postgres: "0009_device_sessions", requires: 2),
    migration!(sqlite: "0011_deployment_keys", postgres: "0010_deployment_keys", requires: 2),
    migration!(sqlite: "0012_metrics_right", postgres: "0011_metrics_right", requires: 2),
    migration!(sqlite: "0013_result_bytes", postgres: "0012_result_bytes", requires: 2),
    migration!(sqlite: "0014_kept_bytes", postgres: "0013_kept_bytes", requires: 2),
    migration!(sqlite: "0015_nodes", postgres: "0014_nodes", requires: 2),
    migration!(sqlite: "0016_units", postgres: "0015_units", requires: 2),
    migration!(sqlite: "0017_device_kinds", postgres: "0016_device_kinds", requires: 2),
    migration!(sqlite: "0018_key_bounds", postgres: "0017_key_bounds", requires: 2),
    migration!(sqlite: "0019_grants", postgres: "0018_grants", requires: 2),
    migration!(sqlite: "0020_enrolment", postgres: "0019_enrolment", requires: 2),
    migration!(sqlite: "0021_revocation", postgres: "0020_revocation", requires: 2),
    migration!(sqlite: "0022_audit", postgres: "0021_audit", requires: 2),
    migration!(sqlite: "0023_token_keys", postgres: "0022_token_keys", requires: 2),
    migration!(sqlite: "0024_people", postgres: "0023_people", requires: 2),
    migration!(sqlite: "0025_usage", postgres: "0024_usage", requires: 2),
    migration!(sqlite: "0026_limits", postgres: "0025_limits", requires: 2),
];

/// Those of SQLite, with the version that each leads to.
pub(crate) fn of_sqlite() -> impl Iterator<Item = (i64, &'static str)> {
    (1..).zip(MIGRATIONS.iter().filter_map(|migration| migration.sqlite))
}

/// Those of PostgreSQL, with the version that each leads to.
pub(crate) fn of_postgres() -> impl Iterator<Item = (i32, PostgresStep)> {
    (1..).zip(MIGRATIONS.iter().filter_map(|migration| migration.postgres))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_released_keeps_its_version() {
        let webhooks = of_sqlite().find(|(_, sql)| sql.contains("CREATE TABLE webhooks"));
        assert_eq!(webhooks.map(|(version, _)| version), Some(4));
        let webhooks = of_postgres().find(|(_, step)| step.sql.contains("CREATE TABLE webhooks"));
        assert_eq!(webhooks.map(|(version, _)| version), Some(3));
    }

    #[test]
    fn no_step_asks_for_less_than_the_one_before_or_for_more_than_itself() {
        assert!(of_postgres().map(|(_, step)| step.requires).is_sorted());
        assert!(of_postgres().all(|(version, step)| step.requires <= version));
    }
}
