//! The conditions of lists with filters.

use rusqlite::ToSql;

/// The conditions of a list, each with its value.
#[derive(Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    pub(super) fn add(&mut self, sql: &str, value: impl ToSql + 'static) {
        self.sql.push(sql.to_owned());
        self.values.push(Box::new(value));
    }

    /// That a column has one of these values, or none of them; nothing if
    /// there are no values.
    pub(super) fn add_among(&mut self, column: &str, is_one: bool, values: &[i64]) {
        if values.is_empty() {
            return;
        }
        let word = if is_one { "IN" } else { "NOT IN" };
        self.sql.push(format!("{column} {word} ({})", vec!["?"; values.len()].join(", ")));
        self.values.extend(values.iter().map(|value| Box::new(*value) as Box<dyn ToSql>));
    }

    pub(super) fn add_if(&mut self, sql: &str, value: Option<impl ToSql + 'static>) {
        if let Some(value) = value {
            self.add(sql, value);
        }
    }

    pub(super) fn clause(&self) -> String {
        self.sql.join(" AND ")
    }

    pub(super) fn parameters(&self) -> Vec<&dyn ToSql> {
        self.values.iter().map(AsRef::as_ref).collect()
    }
}
