//! The threads that read.

use covey_core::error::{Error, StorageFault};
use covey_core::port::Found;
use crossbeam_channel::Receiver;
use futures_channel::oneshot;
use rusqlite::Connection;

use crate::queue;
use crate::sqlite::{Sqlite, fault};
use crate::write_state::WriteState;

/// A read on its way to a thread; it tells the state of damage that it finds.
pub(super) type Read = Box<dyn FnOnce(&Connection, &WriteState) + Send>;

/// Runs until the last sender is gone.
pub(super) fn run(connection: &Connection, queue: &Receiver<Read>, state: &WriteState) {
    queue.iter().for_each(|read| read(connection, state));
}

impl Sqlite {
    pub(super) fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Found<'_, T> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection, state| {
            let outcome = query(connection).map_err(|error| {
                tracing::error!(%error, "SQLite");
                let fault = fault(&error);
                state.met(fault);
                Error::from(fault)
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
