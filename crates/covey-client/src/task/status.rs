//! The state of a task, by number on the wire and by name for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a task, with the numbers of the contract (device-rpc "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
#[repr(u8)]
pub enum TaskStatus {
    /// Stored, not yet acknowledged by the device.
    Ready = 0,
    /// The device has acknowledged the announcement.
    Pending = 1,
    /// The device has taken the task.
    Lock = 2,
    /// Finished with a status code below 400.
    Done = 3,
    /// Its time ran out.
    Expired = 4,
    /// Deleted by an application.
    Deleted = 5,
    /// Finished with a status code of 400 or more.
    Failed = 6,
    /// None that this client knows.
    Undefined = 7,
}

impl TaskStatus {
    /// All states, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Pending,
        Self::Lock,
        Self::Done,
        Self::Expired,
        Self::Deleted,
        Self::Failed,
        Self::Undefined,
    ];

    /// The number of the state.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name of the state, as the contract spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Pending => "PENDING",
            Self::Lock => "LOCK",
            Self::Done => "DONE",
            Self::Expired => "EXPIRED",
            Self::Deleted => "DELETED",
            Self::Failed => "FAILED",
            Self::Undefined => "UNDEFINED",
        }
    }

    /// Whether nothing but a deletion can follow (device-rpc "States").
    #[must_use]
    pub const fn is_final(self) -> bool {
        self as u8 >= Self::Done as u8
    }
}

impl From<u8> for TaskStatus {
    fn from(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Undefined)
    }
}

impl From<TaskStatus> for u8 {
    fn from(status: TaskStatus) -> Self {
        status.number()
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("states are ready, pending, lock, done, expired, deleted, failed, or their numbers 0 to 6")]
pub struct UnknownStatus;

/// By name, in any case, or by number.
impl FromStr for TaskStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let known = Self::ALL.into_iter().filter(|status| *status != Self::Undefined);
        let mut named =
            known.filter(|s| s.name().eq_ignore_ascii_case(text) || s.number().to_string() == text);
        named.next().ok_or(UnknownStatus)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn states_keep_their_numbers_on_the_wire_and_their_names_for_people() {
        for (number, status) in TaskStatus::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_string(&status).unwrap(), number.to_string());
            assert_eq!(serde_json::from_str::<TaskStatus>(&number.to_string()).unwrap(), status);
            assert_eq!(status.is_final(), number >= 3);
        }
        assert_eq!(serde_json::from_str::<TaskStatus>("99").unwrap(), TaskStatus::Undefined);
        assert_eq!("done".parse(), Ok(TaskStatus::Done));
        assert_eq!("6".parse(), Ok(TaskStatus::Failed));
        for bad in ["", "7", "-1", "03", "finished", "undefined"] {
            assert_eq!(bad.parse::<TaskStatus>(), Err(UnknownStatus), "{bad:?}");
        }
    }
}
