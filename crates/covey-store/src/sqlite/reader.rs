//! The threads that read.

use covey_core::error::{Error, Result, StorageFault};
use covey_core::port::BoxFuture;
use crossbeam_channel::{Receiver, TrySendError};
use futures_channel::oneshot;
use rusqlite::Connection;

use crate::sqlite::{Sqlite, fault};

/// A read on its way to a thread.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// Runs until the last sender is gone.
pub(super) fn run(connection: &Connection, queue: &Receiver<Read>) {
    queue.iter().for_each(|read| read(connection));
}

impl Sqlite {
    pub(super) fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            let outcome = query(connection).map_err(|error| {
                tracing::error!(%error, "SQLite");
                Error::from(fault(&error))
            });
            // Whoever asked may have gone away.
            let _ = reply.send(outcome);
        });
        let sent = match &self.reads {
            None => Err(StorageFault::Stopped),
            Some(reads) => reads.try_send(read).map_err(|error| match error {
                TrySendError::Full(_) => StorageFault::Overloaded,
                TrySendError::Disconnected(_) => StorageFault::Stopped,
            }),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
        })
    }
}
