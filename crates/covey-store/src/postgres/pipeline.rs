//! Several statements in one trip: all are sent before the first answer is
//! awaited.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

/// What one statement answered.
pub(super) enum Reply {
    /// Rows.
    Rows(Vec<Row>),
    /// How many rows it changed.
    Changed(u64),
}

impl Reply {
    pub(super) fn rows(self) -> Vec<Row> {
        match self {
            Self::Rows(rows) => rows,
            Self::Changed(_) => Vec::new(),
        }
    }

    pub(super) fn changed(&self) -> u64 {
        match self {
            Self::Rows(_) => 0,
            Self::Changed(count) => *count,
        }
    }
}

/// A value for a statement.
pub(super) type Value<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// Values of a statement, in the order of its parameters.
macro_rules! values {
    ($($value:expr),*) => { vec![$(Box::new($value) as $crate::postgres::pipeline::Value<'_>),*] };
}
pub(super) use values;

/// One column of many rows, as a value.
pub(super) fn column<'v, R, T>(rows: impl IntoIterator<Item = R>, of: impl Fn(R) -> T) -> Value<'v>
where
    Vec<T>: ToSql + Sync + Send + 'v,
{
    Box::new(rows.into_iter().map(of).collect::<Vec<T>>())
}

/// A statement that was not sent yet. The driver sends it when this is first polled.
pub(super) type Step<'a, T = Reply> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Values as the driver takes them.
pub(super) fn borrowed<'v>(values: &'v [Value<'_>]) -> Vec<&'v (dyn ToSql + Sync)> {
    values.iter().map(|value| &**value as _).collect()
}

/// A statement that answers rows.
pub(super) fn query<'a>(client: &'a Client, statement: &'a Statement, values: Vec<Value<'a>>) -> Step<'a> {
    Box::pin(async move { client.query(statement, &borrowed(&values)).await.map(Reply::Rows) })
}

/// A statement that changes rows.
pub(super) fn execute<'a>(client: &'a Client, statement: &'a Statement, values: Vec<Value<'a>>) -> Step<'a> {
    Box::pin(async move { client.execute(statement, &borrowed(&values)).await.map(Reply::Changed) })
}

/// Plain words, such as those that begin and end a transaction.
pub(super) fn batch<'a>(client: &'a Client, sql: &'a str) -> Step<'a> {
    Box::pin(async move { client.batch_execute(sql).await.map(|()| Reply::Changed(0)) })
}

/// Sends all steps in their order and answers when all have; or with the first
/// error, which is the one that made the others fail. A step that cannot even
/// be sent keeps those after it from being sent, above all the commit.
pub(super) async fn run<T>(mut steps: Vec<Step<'_, T>>) -> Result<Vec<T>, Error> {
    let mut replies: Vec<Option<T>> = steps.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_pending = false;
        for (step, reply) in steps.iter_mut().zip(&mut replies) {
            if reply.is_none() {
                match step.as_mut().poll(context) {
                    Poll::Ready(Ok(answer)) => *reply = Some(answer),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await?;
    Ok(replies.into_iter().flatten().collect())
}
