//! The outbox: one record of each change, numbered in the order of the commits,
//! written in the transaction that made the change. Streams and webhooks are
//! fed from it and from nothing else.

mod calls;
mod port;

pub use port::{RecordReader, RecordSteps};

use std::sync::Arc;

use crate::access::{Grants, Rights};
use crate::device::{DeviceIdentity, TAG_CHARS_MAX, TAG_VALUE_CHARS_MAX, Tag};
use crate::event::{DeviceEvent, EVENT_TYPE_CODE_MAX};
use crate::id::{DeviceId, OrgId, RecordNumber, ResultId, TaskId, UnixMs};
use crate::named::named;
use crate::presence::Reason;
use crate::task::{Cause, TaskResult, TaskStatus};

/// What is said of a number that no record has, or had.
pub(crate) const NEVER_ISSUED: &str = "was never issued by this server";

named! {
    /// What a record is about.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[repr(u8)]
    pub enum RecordKind {
        /// A task's state changed.
        Task = 1 => "task",
        /// A result came.
        Result = 2 => "result",
        /// An event came.
        Event = 3 => "event",
        /// A device came or went.
        Presence = 4 => "presence",
        /// A value of a device's twin changed, reported or desired.
        Twin = 5 => "twin",
    }
}

impl RecordKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::NAMES.iter().find(|(kind, _)| i64::from(*kind as u8) == number).map(|(kind, _)| *kind)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

named! {
    /// Which side of a twin.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum TwinSide {
        /// What the device says.
        Reported => "reported",
        /// What an application wants.
        Desired => "desired",
    }
}

/// A change on its way into the outbox. What is stored elsewhere anyway is
/// named and not repeated. An event's record is made with the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewRecord {
    /// A task's state changed.
    Task {
        /// The task.
        id: TaskId,
        /// Its state now.
        status: TaskStatus,
        /// Why.
        cause: Cause,
    },
    /// A result was stored.
    Result {
        /// Its task.
        task: TaskId,
        /// The result.
        result: ResultId,
    },
    /// A value of a twin changed.
    Twin(TwinChange),
}

/// A value of a twin that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinChange {
    /// On which side.
    pub side: TwinSide,
    /// The resource.
    pub resource: String,
    /// Its value as JSON text; none if it was removed.
    pub value: Option<Arc<str>>,
    /// The version of that side of the twin.
    pub version: i64,
}

/// The device that a change was about, when the change was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDevice {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// Its tags now, if they were asked for.
    pub tags: Option<Arc<[Tag]>>,
}

/// A record with all that is to be told of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub number: RecordNumber,
    /// The device.
    pub device: RecordDevice,
    /// When the change was made.
    pub at: UnixMs,
    /// The change.
    pub change: Change,
}

/// A change, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A task's state changed.
    Task {
        /// Which task.
        task: RecordTask,
        /// Its state then.
        status: TaskStatus,
        /// Why.
        cause: Cause,
    },
    /// A result came.
    Result {
        /// Of which task.
        task: RecordTask,
        /// The result.
        result: TaskResult,
    },
    /// An event came.
    Event(DeviceEvent),
    /// A device came or went.
    Presence {
        /// Whether it is connected.
        online: bool,
        /// Why it went, or what its coming ended.
        reason: Reason,
    },
    /// A value of a twin changed.
    Twin(TwinChange),
}

/// What never changes of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTask {
    /// Its id.
    pub id: TaskId,
    /// The application's own id for it.
    pub ext_task_id: String,
    /// What is to be done, as a number.
    pub method_code: u16,
    /// What is to be done, as a name.
    pub method: Option<String>,
    /// The name of the API key that made it, if that is known.
    pub created_by: Option<Arc<str>>,
}

impl Change {
    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Task { .. } => RecordKind::Task,
            Self::Result { .. } => RecordKind::Result,
            Self::Event(_) => RecordKind::Event,
            Self::Presence { .. } => RecordKind::Presence,
            Self::Twin(_) => RecordKind::Twin,
        }
    }
}

impl Record {
    /// How many bytes it takes beside its texts.
    pub const FRAME_BYTES: usize = size_of::<Self>();

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let body = match &self.change {
            Change::Task { task, .. } => task.ext_task_id.len(),
            Change::Result { task, result } => task.ext_task_id.len() + result.result.body.text().len(),
            Change::Event(event) => event.payload.len(),
            Change::Presence { .. } => 0,
            Change::Twin(change) => {
                change.resource.len() + change.value.as_ref().map_or(0, |value| value.len())
            }
        };
        Self::FRAME_BYTES + body
    }
}

/// Which records someone wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Those of devices with these numbers; of all if there is none.
    pub devices: Vec<DeviceId>,
    /// Those of devices with one of these tags, and with this value if one is given.
    pub tags: Vec<(String, Option<String>)>,
    /// Those of these kinds; of all if there is none.
    pub kinds: Vec<RecordKind>,
    /// Of events, those of these types; all if there is none.
    pub event_types: Vec<i64>,
    /// Of these, those that somebody may read by these grants; all if there are none.
    pub granted: Option<Grants>,
}

/// How many devices, tags or types a filter may name.
/// Limit for each filter: 422.
pub const FILTER_NAMES_MAX: usize = 1_000;

impl RecordFilter {
    /// Checks the filter against its bounds.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] naming the first that is too long.
    pub fn validate(&self) -> crate::Result<()> {
        let lengths = [
            ("device_id", self.devices.len()),
            ("tag", self.tags.len()),
            ("event_type_code", self.event_types.len()),
        ];
        if let Some((field, _)) = lengths.into_iter().find(|(_, length)| *length > FILTER_NAMES_MAX) {
            return Err(crate::Error::invalid(field, "must be at most 1000"));
        }
        if self.devices.iter().any(|device| device.0 < 1) {
            return Err(crate::Error::invalid("device_id", "must be 1 or more"));
        }
        if self.event_types.iter().any(|code| !(0..=EVENT_TYPE_CODE_MAX).contains(code)) {
            let problem = "must be 0 to 2147483647; coming and going is told as presence";
            return Err(crate::Error::invalid("event_type_code", problem));
        }
        let is_tag = |(tag, value): &(String, Option<String>)| {
            (1..=TAG_CHARS_MAX).contains(&tag.chars().count())
                && value.as_ref().is_none_or(|value| value.chars().count() <= TAG_VALUE_CHARS_MAX)
        };
        if !self.tags.iter().all(is_tag) {
            return Err(crate::Error::invalid("tag", "must be 1 to 64 characters, and a value at most 1024"));
        }
        Ok(())
    }

    /// Whether the tags of devices decide.
    #[must_use]
    pub fn looks_at_tags(&self) -> bool {
        !self.tags.is_empty() || self.granted.is_some()
    }

    /// Whether a record is one of those that are wanted.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        let one_of = |tags: &[Tag]| {
            self.tags.iter().any(|(name, value)| {
                tags.iter()
                    .any(|tag| tag.tag == *name && value.as_ref().is_none_or(|value| tag.value == *value))
            })
        };
        let is_of_type = match &record.change {
            Change::Event(event) => {
                self.event_types.is_empty() || self.event_types.contains(&event.type_code)
            }
            _ => true,
        };
        (self.kinds.is_empty() || self.kinds.contains(&record.change.kind()))
            && (self.devices.is_empty() || self.devices.contains(&record.device.identity.device_id))
            && is_of_type
            && (self.tags.is_empty() || record.device.tags.as_deref().is_some_and(one_of))
            && self.granted.as_ref().is_none_or(|grants| {
                let tags = record.device.tags.as_deref().unwrap_or_default();
                grants.giving(Rights::EVENTS_READ, tags, record.into()).is_some()
            })
    }
}

/// Which records are to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRequest {
    /// Those of this organisation; of all if there is none.
    pub org: Option<OrgId>,
    /// Those after this number.
    pub after: RecordNumber,
    /// Those up to this number.
    pub until: Option<RecordNumber>,
    /// How many at most.
    pub limit: u32,
    /// How many bytes they may take together ([`Record::bytes`]); the first comes in any case.
    pub bytes_max: usize,
    /// Whether the tags of the devices are wanted, too.
    pub with_tags: bool,
}

/// Records in the order of their numbers, and how far was looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// The records. One whose event, task or result has been forgotten is left out.
    pub records: Vec<Record>,
    /// Up to this number there is none that is not among them, and none will
    /// ever be.
    pub position: RecordNumber,
    /// Whether there are more already.
    pub is_more: bool,
}

/// The span of the numbers that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSpan {
    /// All records up to this number may have been forgotten.
    pub forgotten: RecordNumber,
    /// Up to this number all records are there that ever will be.
    pub settled: RecordNumber,
}
