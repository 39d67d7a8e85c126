//! What can go wrong with a request, said in terms of what the caller may do.

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request was not carried out. Nothing has changed when it is returned.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Fix the request: one field is not as it must be.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field as the caller named it.
        field: &'static str,
        /// What it must be.
        problem: &'static str,
        /// In which way it is not.
        fault: FieldFault,
    },
    /// There is no such thing, or it belongs to another organisation.
    #[error("{what} not found")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
    },
    /// The request contradicts what is stored; repeating it will not help.
    #[error("{problem}")]
    Conflict {
        /// What it contradicts.
        problem: &'static str,
    },
    /// The serial number is that of a device, of whichever organisation.
    #[error("a device with this serial number is registered")]
    SnTaken,
    /// Without this key nobody could make keys for every organisation.
    #[error(
        "this is the last key that may make keys for every organisation; make another first. Where it was lost, whoever \
         owns the server's machine runs: covey key recover"
    )]
    LastKey,
    /// What is stored is not as the caller demanded.
    #[error("{problem}")]
    Precondition {
        /// What is not.
        problem: &'static str,
    },
    /// What is asked for was there and is not kept any more.
    #[error("{what}")]
    Gone {
        /// What, and what to do.
        what: &'static str,
    },
    /// The caller lacks a right.
    #[error("the right {right} is missing")]
    Forbidden {
        /// The name of the right.
        right: &'static str,
    },
    /// The caller has the right for some devices, methods or kinds of data, of which this is none.
    #[error(
        "the right {right} is not granted here: not for this device, method or kind of data, or not for all"
    )]
    NotGranted {
        /// The name of the right.
        right: &'static str,
    },
    /// A limit was reached; the caller may try again later.
    #[error("{limit}")]
    Exhausted {
        /// The limit, with its name.
        limit: &'static str,
    },
    /// As much is kept as may be; it may be tried again when something was deleted or has become too old.
    #[error("{limit}; delete tasks, or keep things for a shorter time")]
    OverQuota {
        /// Who keeps as much.
        limit: &'static str,
    },
    /// It was given up because it takes too long; the same again would meet the same.
    #[error("it took longer than 10 s; ask for less: a shorter time, one device, one type, an earlier page")]
    TookTooLong,
    /// More was asked than the caller, the device or the organisation may; the caller may try again later.
    #[error("{limit}; try again later")]
    OverBudget {
        /// Who has asked too much.
        limit: &'static str,
    },
    /// No message to devices can leave now; the caller may try again later.
    #[error("the broker takes no messages to devices now")]
    Blocked,
    /// The store does not take writes now; the caller may try again later.
    #[error("storage is not available: {reason}")]
    Unavailable {
        /// Why, in words for an operator.
        reason: StorageFault,
    },
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFault {
    /// Its value is out of its range or form.
    OutOfRange,
    /// It is not given.
    Missing,
    /// It does not go with another field, or with what is stored.
    Contradiction,
}

/// Why the store does not take writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// No room is left on the disk: only what makes room or shuts somebody out is taken.
    Full,
    /// Less room is left on the disk than must be: nothing new is taken.
    Short,
    /// The database may only be read.
    ReadOnly,
    /// A page of the database cannot be read, or is not what it must be.
    Damaged,
    /// The disk or the database answered with an error.
    Io,
    /// The database cannot be reached.
    Unreachable,
    /// Too many operations wait already.
    Overloaded,
    /// The store was stopped.
    Stopped,
}

impl std::fmt::Display for StorageFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full: only deletions and revocations are taken",
            Self::Short => "the disk is nearly full: nothing new is taken",
            Self::ReadOnly => "the database is read-only",
            Self::Damaged => "the database is damaged: a page of it cannot be read",
            Self::Io => "the database reported an error",
            Self::Unreachable => "the database cannot be reached",
            Self::Overloaded => "too many operations are waiting",
            Self::Stopped => "the server is stopping",
        })
    }
}

impl Error {
    /// A field that is out of its range.
    #[must_use]
    pub const fn invalid(field: &'static str, problem: &'static str) -> Self {
        Self::Invalid { field, problem, fault: FieldFault::OutOfRange }
    }

    /// A field that is not given.
    #[must_use]
    pub const fn missing(field: &'static str, problem: &'static str) -> Self {
        Self::Invalid { field, problem, fault: FieldFault::Missing }
    }

    /// A field that does not go with another, or with what is stored.
    #[must_use]
    pub const fn contradiction(field: &'static str, problem: &'static str) -> Self {
        Self::Invalid { field, problem, fault: FieldFault::Contradiction }
    }

    /// Something that is not there for this caller.
    #[must_use]
    pub const fn not_found(what: &'static str) -> Self {
        Self::NotFound { what }
    }
}

impl From<StorageFault> for Error {
    fn from(reason: StorageFault) -> Self {
        Self::Unavailable { reason }
    }
}
