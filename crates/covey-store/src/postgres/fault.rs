//! What an error of PostgreSQL means for those who wait.

use covey_core::error::StorageFault;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::postgres::options::said;

/// Why a transaction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// One of its jobs met a fault, or brought something that the database refused.
    OfJob(StorageFault),
    /// Every job in it would meet the same again.
    OfAll(StorageFault),
    /// It stood in another's way and may be run again.
    Again,
    /// The connection is gone.
    Lost,
}

impl Failure {
    /// What a caller is told if nothing helped.
    pub(super) fn fault(self) -> StorageFault {
        match self {
            Self::OfJob(fault) | Self::OfAll(fault) => fault,
            Self::Again => StorageFault::Io,
            Self::Lost => StorageFault::Unreachable,
        }
    }
}

/// Sorts an error (PostgreSQL "Error Codes"). The details go to the log alone.
pub(super) fn failure(error: &Error) -> Failure {
    let Some(code) = error.code() else {
        // What the driver cannot encode or decode is a matter of one job.
        let is_of_connection =
            error.is_closed() || std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>());
        let failure = if is_of_connection { Failure::Lost } else { Failure::OfJob(StorageFault::Io) };
        log(error, failure);
        return failure;
    };
    let failure = match code {
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::LOCK_NOT_AVAILABLE
        // How our statements say that they did not find what they were to change.
        | &SqlState::DIVISION_BY_ZERO
        // Another server stored the same just now: the next look will see it.
        | &SqlState::UNIQUE_VIOLATION
        // What was to go where rows without a partition go has got one just now.
        | &SqlState::CHECK_VIOLATION => Failure::Again,
        &SqlState::DISK_FULL => Failure::OfAll(StorageFault::Full),
        // A standby: the next connection may find the one that can be written to.
        &SqlState::READ_ONLY_SQL_TRANSACTION => Failure::OfAll(StorageFault::ReadOnly),
        &SqlState::ADMIN_SHUTDOWN
        | &SqlState::CRASH_SHUTDOWN
        | &SqlState::CANNOT_CONNECT_NOW
        | &SqlState::TOO_MANY_CONNECTIONS
        | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Failure::Lost,
        code if code.code().starts_with("08") => Failure::Lost,
        // It took longer than a statement may.
        &SqlState::QUERY_CANCELED => Failure::OfAll(StorageFault::Io),
        // Insufficient resources, and system errors.
        code if code.code().starts_with("53") || code.code().starts_with("58") => Failure::OfAll(StorageFault::Io),
        _ => Failure::OfJob(StorageFault::Io),
    };
    log(error, failure);
    failure
}

fn log(error: &Error, failure: Failure) {
    let error = said(error);
    match failure {
        Failure::Again => tracing::debug!(%error, "PostgreSQL; the group is run again"),
        Failure::Lost => tracing::warn!(%error, "PostgreSQL; the connection is made anew"),
        Failure::OfJob(_) | Failure::OfAll(_) => tracing::error!(%error, "PostgreSQL"),
    }
}
