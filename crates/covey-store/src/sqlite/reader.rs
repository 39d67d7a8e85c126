//! The threads that read.

use covey_core::error::{Error, StorageFault};
use covey_core::port::Found;
use crossbeam_channel::Receiver;
use futures_channel::oneshot;
use rusqlite::Connection;

use crate::queue;
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
    ) -> Found<'_, T> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            let outcome = query(connection).map_err(|error| {
                tracing::error!(%error, "SQLite");
                Error::from(fault(&error))
            });
            // Whoever asked may have gone away.
            let _ = reply.send(outcome);
        });
        let sent = queue::put(self.reads.as_ref(), read);
        self.tell_hand();
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or(Err(Error::from(StorageFault::Stopped)))
        })
    }
}
