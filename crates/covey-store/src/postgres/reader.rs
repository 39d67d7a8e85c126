//! What a read asks: one prepared statement, each row of which says one thing.

use std::sync::Arc;

use covey_core::port::{Found, ReadKind, Turn};

use crate::postgres::Postgres;
use crate::postgres::pipeline::{Value, borrowed};
use crate::postgres::statements::Reading;
use crate::rows::{Columns, Read};

impl Postgres {
    /// One prepared statement, each row of which says one thing.
    pub(super) fn rows<T: Send + 'static>(
        &self,
        kind: ReadKind,
        turn: Turn,
        statement: fn(&Reading) -> &tokio_postgres::Statement,
        values: Vec<Value<'static>>,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> Found<'static, Vec<T>> {
        let values = Arc::new(values);
        self.reads.read(kind, turn, move |session| {
            let values = Arc::clone(&values);
            Box::pin(async move {
                let found = session.client.query(statement(&session.sql), &borrowed(&values)).await?;
                found.iter().map(|row| read(row)).collect()
            })
        })
    }

    pub(super) fn row<T: Send + 'static>(
        &self,
        kind: ReadKind,
        turn: Turn,
        statement: fn(&Reading) -> &tokio_postgres::Statement,
        values: Vec<Value<'static>>,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> Found<'static, Option<T>> {
        let rows = self.rows(kind, turn, statement, values, read);
        Box::pin(async move { Ok(rows.await?.into_iter().next()) })
    }
}
