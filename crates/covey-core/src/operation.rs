//! The operations that write: each is a value that says what is asked for, and
//! a function that does it inside a transaction.
//!
//! An operation first looks, then decides with the rules of its noun,
//! then writes. One that refuses has not written.

use futures_channel::oneshot;

use crate::audit::AuditEntry;
use crate::error::{Error, Result, StorageFault};
use crate::id::{DeviceKey, OrgId};
use crate::port::{Job, Need, ReadSet, Transaction, Turn};

/// Why an operation gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abort {
    /// It refused; the transaction goes on without it.
    Refused(Error),
    /// The storage failed; the transaction fails.
    Fault(StorageFault),
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageFault> for Abort {
    fn from(fault: StorageFault) -> Self {
        Self::Fault(fault)
    }
}

/// Something that is done inside a transaction, all of it or nothing.
pub trait Operation: Send + 'static {
    /// The answer.
    type Output: Send + 'static;

    /// What it needs room for, which decides whether it is taken while room is short.
    const NEED: Need = Need::Running;

    /// In whose turn it is run.
    fn turn(&self) -> Turn;

    /// Whose quota it is refused for when that is used up: an organisation's, for all that is new, and that of
    /// a device which sends something.
    fn adds_to(&self) -> Option<(OrgId, Option<DeviceKey>)> {
        match (Self::NEED, self.turn()) {
            (Need::New, Turn::Org(org)) => Some((org, None)),
            _ => None,
        }
    }

    /// How much memory what was sent along takes, in bytes: payloads, bodies, values; about.
    fn bytes(&self) -> usize {
        0
    }

    /// Adds what [`apply`](Self::apply) will ask the transaction for, as far as
    /// it is worth fetching beforehand: what happens often.
    fn read_set(&self, _reads: &mut ReadSet) {}

    /// Does it. May be called again when the transaction failed as a whole.
    ///
    /// # Errors
    /// [`Abort::Refused`] before anything was written, or the storage's fault.
    fn apply(&self, tx: &mut dyn Transaction) -> Result<Self::Output, Abort>;

    /// What the audit log is told of what was done: an entry for each thing that somebody who is no device has changed. An
    /// operation of a device, or of the server itself, has none.
    fn entries(&self, output: &Self::Output) -> Vec<AuditEntry>;
}

/// What follows from an answer once it is committed.
type Then<O, R> = Box<dyn FnOnce(&<O as Operation>::Output) -> R + Send>;

/// An operation on its way through the store, with the way back for its answer.
pub(crate) struct OperationJob<O: Operation, R> {
    operation: O,
    answer: Option<Result<O::Output>>,
    then: Then<O, R>,
    reply: oneshot::Sender<Result<(O::Output, R)>>,
}

/// Where the answer to an operation will come, with what followed from it.
pub(crate) type Answer<O, R> = oneshot::Receiver<Result<(<O as Operation>::Output, R)>>;

impl<O: Operation, R: Send + 'static> OperationJob<O, R> {
    /// A job, and where its answer will come. After the commit it calls
    /// `then`, whether or not anyone still waits for the answer.
    pub(crate) fn new(
        operation: O,
        then: impl FnOnce(&O::Output) -> R + Send + 'static,
    ) -> (Box<Self>, Answer<O, R>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { operation, answer: None, then: Box::new(then), reply }), answer)
    }
}

impl<O: Operation, R: Send + 'static> Job for OperationJob<O, R> {
    fn turn(&self) -> Turn {
        self.operation.turn()
    }

    fn bytes(&self) -> usize {
        self.operation.bytes()
    }

    fn read_set(&self, reads: &mut ReadSet) {
        self.operation.read_set(reads);
    }

    fn need(&self) -> Need {
        O::NEED
    }

    fn run(&mut self, tx: &mut dyn Transaction) -> Result<(), StorageFault> {
        self.answer = match self.operation.apply(tx) {
            Ok(output) => {
                for entry in self.operation.entries(&output) {
                    tx.audit_add(&entry)?;
                }
                Some(Ok(output))
            }
            Err(Abort::Refused(error)) => Some(Err(error)),
            Err(Abort::Fault(fault)) => return Err(fault),
        };
        Ok(())
    }

    fn settle(self: Box<Self>, committed: Result<(), StorageFault>) {
        let Self { answer, then, reply, .. } = *self;
        let answer = match committed {
            Ok(()) => answer.unwrap_or(Err(Error::from(StorageFault::Stopped))),
            Err(fault) => Err(Error::from(fault)),
        };
        let answer = answer.map(|output| {
            let followed = then(&output);
            (output, followed)
        });
        // A caller that has gone away needs no answer; what it asked for is done.
        let _ = reply.send(answer);
    }
}
