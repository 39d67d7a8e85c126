//! The statements that are prepared on a connection. Each noun lists its own; a
//! test shows the plans of all, because the cost of most must not grow with the
//! number of tasks ever made.

use std::sync::OnceLock;

use tokio_postgres::{Client, Error, Statement};

use crate::postgres::pipeline::{self, Step};
use crate::postgres::write::group_statement::{self, Parts};
use crate::postgres::{
    access, audit, certificate, device, device_session, enrolment, event, node, own_limits, person, presence,
    quota, record, retention, task, token, twin, unit, usage, webhook,
};

/// Puts the statements of nouns together.
macro_rules! of_nouns {
    ($(#[$about:meta])* $kind:ident { $($noun:ident)* }) => {
        $(#[$about])*
        pub(super) struct $kind { $(pub(super) $noun: $noun::$kind,)* }

        impl $kind {
            fn all() -> Vec<(&'static str, &'static str)> {
                [$($noun::$kind::ALL),*].concat()
            }

            /// Prepares all of them in one trip.
            pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
                let steps = Self::all().into_iter().map(|(_, sql)| Box::pin(client.prepare(sql)) as Step<'_, Statement>);
                let mut prepared = pipeline::run(steps.collect()).await?.into_iter();
                Ok(Self { $($noun: $noun::$kind::take(client, &mut prepared).await?,)* })
            }
        }
    };
}

of_nouns! {
    /// Those of the connection that writes.
    Writing { task token person device certificate device_session enrolment node event presence twin unit webhook access retention quota usage own_limits audit }
}

of_nouns! {
    /// Those of a connection that reads.
    Reading { task token person device certificate device_session enrolment node event record presence twin unit webhook access retention quota usage own_limits audit }
}

/// The statements that write nearly all of a group.
pub(super) struct Writes {
    /// One for each set of parts, prepared when it is first needed: a server
    /// needs few of them.
    by_parts: [OnceLock<Statement>; Parts::COUNT],
    /// Tasks that were made and became final in one group.
    pub(super) insert_done: Statement,
}

impl Writes {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let by_parts = std::array::from_fn(|_| OnceLock::new());
        Ok(Self { by_parts, insert_done: client.prepare(&group_statement::new_final_tasks()).await? })
    }

    /// The one that writes these parts.
    pub(super) async fn of(&self, client: &Client, parts: Parts) -> Result<&Statement, Error> {
        // There is one for each set of parts.
        let place = &self.by_parts[parts.place()];
        match place.get() {
            Some(statement) => Ok(statement),
            None => {
                let statement = client.prepare(&parts.sql()).await?;
                Ok(place.get_or_init(|| statement))
            }
        }
    }
}

/// All statements by their names, for the tests that look at their plans.
pub(super) fn all() -> Vec<(String, String)> {
    let named = [Writing::all(), Reading::all()].concat();
    let named = named.into_iter().map(|(name, sql)| (name.to_owned(), sql.to_owned()));
    let writes = Parts::all().enumerate().map(|(place, sql)| (format!("write {place:08b}"), sql));
    named.chain(writes).chain([("insert_done".to_owned(), group_statement::new_final_tasks())]).collect()
}
