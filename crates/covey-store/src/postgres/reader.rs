//! What a read asks: one prepared statement, each row of which says one thing.

use std::sync::Arc;

use covey_core::error::Result;
use covey_core::port::BoxFuture;
use tokio_postgres::types::ToSql;

use crate::postgres::Postgres;
use crate::postgres::statements::Reading;
use crate::rows::{Columns, Read};

/// Values of a statement that can be given to it twice.
pub(crate) type Values = Vec<Box<dyn ToSql + Sync + Send>>;

impl Postgres {
    /// One prepared statement, each row of which says one thing.
    pub(super) fn rows<T: Send + 'static>(
        &self,
        statement: fn(&Reading) -> &tokio_postgres::Statement,
        values: Values,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> BoxFuture<'static, Result<Vec<T>>> {
        let values = Arc::new(values);
        self.reads.read(move |session| {
            let values = Arc::clone(&values);
            Box::pin(async move {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| &**value as _).collect();
                session
                    .client
                    .query(statement(&session.sql), &values)
                    .await?
                    .iter()
                    .map(|row| read(row))
                    .collect()
            })
        })
    }

    pub(super) fn row<T: Send + 'static>(
        &self,
        statement: fn(&Reading) -> &tokio_postgres::Statement,
        values: Values,
        read: fn(&dyn Columns) -> Read<T>,
    ) -> BoxFuture<'static, Result<Option<T>>> {
        let rows = self.rows(statement, values, read);
        Box::pin(async move { Ok(rows.await?.into_iter().next()) })
    }
}
