//! Twins: named values of a device, what it says they are and what
//! applications want them to be.

mod calls;
mod operation;
mod port;

pub use operation::{ChangedTwin, DeviceReport, TwinChangeAll, TwinReport, TwinReportAll};
pub(crate) use operation::{demand_room, report_all};
pub use port::{TwinReader, TwinSteps};

use std::sync::Arc;

use crate::budget::Weight;
use crate::device::DeviceIdentity;
use crate::error::{Error, Result};
use crate::id::{TaskId, UnixMs};
use crate::json::levels;
use crate::task::{PRIORITY_MAX, TTL_MINUTES_MAX};

/// How many resources a twin may have.
/// Limit for each device: 422; 0x99 for the event that reports more.
pub const RESOURCES_MAX: u32 = 256;
/// Longest name of a resource, in characters.
/// Limit for each value: 422.
pub const RESOURCE_CHARS_MAX: usize = 128;
/// Longest value, in bytes of JSON text.
/// Limit for each value: 422.
pub const VALUE_BYTES_MAX: usize = 16 * 1024;
/// How deeply a value may be nested: the event that reports it has two levels
/// more, and 64 at most.
/// Limit for each value: 422.
pub const VALUE_LEVELS_MAX: usize = 62;

/// The method of the tasks by which desired values reach a device.
pub const SET_METHOD: &str = "twin.set";
/// The number of that method, for devices that know methods by their numbers.
pub const SET_METHOD_CODE: i64 = 65_000;
/// How many values of a resource's history one look gives at most.
/// Limit for each request: 422.
pub const HISTORY_MAX: u32 = 1_000;

/// A device's twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The device.
    pub device: DeviceIdentity,
    /// Its versions.
    pub versions: TwinVersions,
    /// Its resources, in the order of their names.
    pub resources: Vec<TwinResource>,
}

/// How often each side of a twin was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwinVersions {
    /// The side that the device says.
    pub reported: i64,
    /// The side that applications want.
    pub desired: i64,
}

/// A named value of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinResource {
    /// Its name.
    pub name: String,
    /// What the device says that it is.
    pub reported: Option<ReportedValue>,
    /// What applications want it to be.
    pub desired: Option<DesiredValue>,
}

/// A value that a device reported, or an application on its behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedValue {
    /// The value as JSON text; none if it was removed.
    pub value: Option<Arc<str>>,
    /// The version of the reported side that it came with.
    pub version: i64,
    /// When it came.
    pub at: UnixMs,
}

/// A value that applications want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredValue {
    /// The value as JSON text.
    pub value: Arc<str>,
    /// The version of the desired side that it came with.
    pub version: i64,
    /// When it came.
    pub at: UnixMs,
    /// The task that tells the device.
    pub task: TaskId,
}

/// Which versions a caller demands before it writes (RFC 9110 §13.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfMatch {
    /// That of the reported side.
    pub reported: Option<i64>,
    /// That of the desired side.
    pub desired: Option<i64>,
}

impl IfMatch {
    /// Whether these are the versions of a twin.
    #[must_use]
    pub fn holds(self, versions: TwinVersions) -> bool {
        self.reported.is_none_or(|wanted| wanted == versions.reported)
            && self.desired.is_none_or(|wanted| wanted == versions.desired)
    }
}

/// What an application changes of a twin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TwinPatch {
    /// Values that it reports on behalf of the device, by resource; none removes one.
    pub reported: Vec<(String, Option<Arc<str>>)>,
    /// Values that it wants, by resource; none takes the wish back.
    pub desired: Vec<(String, Option<Arc<str>>)>,
    /// The versions that it demands, one of these; none for any.
    pub if_match: Option<Vec<IfMatch>>,
    /// The priority of the tasks that tell the device.
    pub priority: i64,
    /// Their life in whole minutes.
    pub ttl_minutes: i64,
}

/// How long a device has to take a desired value, in minutes, unless asked for
/// otherwise: as long as a task can live.
pub const TTL_MINUTES_DEFAULT: i64 = TTL_MINUTES_MAX;

impl TwinPatch {
    /// How much memory what was sent takes, in bytes; about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let values = self.reported.iter().chain(&self.desired);
        values.map(|(resource, value)| resource.len() + value.as_ref().map_or(0, |value| value.len())).sum()
    }

    /// How many bytes the values have that it reports.
    pub(crate) fn reported_bytes(&self) -> usize {
        self.reported.iter().filter_map(|(_, value)| value.as_ref()).map(|value| value.len()).sum()
    }

    /// What it weighs.
    pub(crate) fn weight(&self) -> Weight {
        Weight::twin(self.reported.len() + self.desired.len(), self.bytes())
    }

    /// Whether a twin is as demanded.
    #[must_use]
    pub fn holds(&self, versions: TwinVersions) -> bool {
        self.if_match.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one.holds(versions)))
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.reported.len().max(self.desired.len()) > RESOURCES_MAX as usize {
            return Err(Error::invalid("resource", "must be at most 256 at a time"));
        }
        if !(0..=PRIORITY_MAX).contains(&self.priority) {
            return Err(Error::invalid("priority", "must be 0 to 9"));
        }
        if !(1..=TTL_MINUTES_MAX).contains(&self.ttl_minutes) {
            return Err(Error::invalid("ttl", "must be 1 to 44639 minutes"));
        }
        let all = self.reported.iter().chain(&self.desired);
        all.into_iter().try_for_each(|(name, value)| validate(name, value.as_deref().unwrap_or("")))
    }
}

/// Checks a resource's name and its value, JSON text.
///
/// # Errors
/// [`Error::Invalid`] naming `resource` or `value`.
pub fn validate(resource: &str, value: &str) -> Result<()> {
    if !(1..=RESOURCE_CHARS_MAX).contains(&resource.len()) || !resource.bytes().all(is_name_byte) {
        return Err(Error::invalid("resource", "must be 1 to 128 characters of A-Z a-z 0-9 _ . : / -"));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::invalid("value", "must be at most 16384 bytes of JSON"));
    }
    if levels(value) > VALUE_LEVELS_MAX {
        return Err(Error::invalid("value", "must be nested at most 62 deep"));
    }
    Ok(())
}

/// Such names need no quoting, in JSON, in a path or in a topic.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'-')
}
