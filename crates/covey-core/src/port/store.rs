//! The port to the store: jobs that write, and reads.

use crate::access::AccessReader;
use crate::audit::AuditReader;
use crate::certificate::CertificateReader;
use crate::device::DeviceReader;
use crate::device_session::SessionReader;
use crate::enrolment::EnrolmentReader;
use crate::error::{Result, StorageFault};
use crate::event::EventReader;
use crate::node::NodeReader;
use crate::own_limits::LimitsReader;
use crate::person::PersonReader;
use crate::port::{Found, Need, ReadSet, Room, Transaction, Turn};
use crate::presence::PresenceReader;
use crate::quota::QuotaReader;
use crate::record::RecordReader;
use crate::retention::{Prune, Pruned, RetentionReader};
use crate::task::TaskReader;
use crate::token::TokenReader;
use crate::twin::TwinReader;
use crate::unit::UnitReader;
use crate::usage::UsageReader;
use crate::webhook::WebhookReader;

/// A unit of work that the store runs inside a transaction of its choosing.
///
/// A store runs many jobs in one transaction and commits once; then it settles
/// each. When a transaction fails as a whole, its jobs may be run again.
pub trait Job: Send {
    /// In whose turn it is run.
    fn turn(&self) -> Turn;

    /// How much memory it holds while it waits beside itself, in bytes; about.
    fn bytes(&self) -> usize {
        0
    }

    /// Adds what [`run`](Self::run) will ask for.
    fn read_set(&self, _reads: &mut ReadSet) {}

    /// What it needs room for.
    fn need(&self) -> Need {
        Need::Running
    }

    /// Does the work and keeps the answer.
    ///
    /// # Errors
    /// Only a fault of the storage; a refusal is an answer like any other. A job
    /// that refuses must not have written.
    fn run(&mut self, tx: &mut dyn Transaction) -> Result<(), StorageFault>;

    /// Hands out the answer: after the commit, or with the fault that
    /// prevented it. Jobs are settled in the order in which they were run.
    fn settle(self: Box<Self>, committed: Result<(), StorageFault>);
}

/// The reads. They see what was committed before they began, and do not wait
/// for writers.
pub trait Reader:
    TaskReader
    + DeviceReader
    + CertificateReader
    + EnrolmentReader
    + EventReader
    + RecordReader
    + PresenceReader
    + SessionReader
    + TwinReader
    + NodeReader
    + UnitReader
    + WebhookReader
    + AccessReader
    + TokenReader
    + PersonReader
    + RetentionReader
    + QuotaReader
    + UsageReader
    + LimitsReader
    + AuditReader
    + Send
    + Sync
    + 'static
{
}

/// The store.
pub trait Store: Reader {
    /// Takes a job, to be run and settled soon: those of each [`Turn`] in the order in which they were
    /// submitted, the turns one after the other.
    ///
    /// # Errors
    /// [`StorageFault::Overloaded`] when too many jobs of this turn wait, or
    /// [`StorageFault::Stopped`]; the job is then dropped unsettled.
    fn submit(&self, job: Box<dyn Job>) -> Result<(), StorageFault>;

    /// Why nothing can be stored now; none while writes succeed.
    ///
    /// It is what the last commit met, so asking costs nothing. While there is
    /// nothing to commit the store looks by itself: PostgreSQL each second; SQLite
    /// each second after a failure, until a write succeeds again.
    fn write_fault(&self) -> Option<StorageFault>;

    /// How much room there is. Asking costs nothing.
    ///
    /// While there is none, a store takes jobs of [`Need::Relief`] all the same, and
    /// has kept room for them as far as it can.
    fn room(&self) -> Room;

    /// Forgets what is too old: a bounded amount, beside the jobs.
    fn prune(&self, what: Prune) -> Found<'_, Pruned>;
}
