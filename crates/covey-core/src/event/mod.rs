//! Events: what devices tell unasked (device-events), and what servers note of
//! devices.

mod calls;
mod operation;
mod port;
mod series;
mod series_cache;

pub use operation::{EventAdd, EventNext, EventOffset, EventOffsetMove};
pub use port::{EventReader, EventSteps};

use std::sync::Arc;

use uuid::Uuid;

use crate::budget::Weight;
use crate::error::{Error, Result};
use crate::id::{DeviceId, DeviceKey, OrgId, RecordNumber, Sn, UnixMs};
use crate::presence::Reason;

pub use series::{
    BUCKETS_MAX, Bucket, FIELDS_MAX, Field, FieldQuery, PathStep, SERIES_PATH_MAX, SeriesPath, SeriesQuery,
};
pub(crate) use series_cache::SeriesCache;

/// Longest body of an event, in bytes.
/// Limit for each event: 0x99, and a line in the log.
pub const EVENT_BODY_BYTES_MAX: usize = 64 * 1024;
/// Highest type code that a device may give.
/// Limit for each event: 0x99, and a line in the log.
pub const EVENT_TYPE_CODE_MAX: i64 = i32::MAX as i64;
/// Type code of the event that a server notes when a device has connected.
/// Negative, so that no device can give it.
pub const ONLINE_TYPE_CODE: i64 = -1;
/// Type code of the event that a server notes when a device has gone.
pub const OFFLINE_TYPE_CODE: i64 = -2;
/// How many events one look after the last one gives at most (rest-api "Events").
/// Limit for each answer: 422 for more.
pub const INCREMENTAL_MAX: u32 = 100;

/// What tells an event of a device from another, if its number is not 0
/// (device-events "Duplicates").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventKey {
    /// The event's number on the device.
    pub dev_event_id: u32,
    /// Its time, by the device.
    pub dev_timestamp: UnixMs,
}

/// An event as a device sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its type; 0 if the device gives none.
    pub type_code: i64,
    /// Its number on the device; 0 if the device does not count.
    pub dev_event_id: u32,
    /// Its time by the device, if the device gives one that can be read.
    pub dev_timestamp: Option<UnixMs>,
    /// What it belongs to.
    pub correlation: Option<Uuid>,
    /// The JSON object that the device sent, exactly so.
    pub payload: Arc<str>,
    /// Values of the device's resources that it reports.
    pub reported: Vec<Reported>,
}

/// A value that a device reports of one of its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// The resource.
    pub resource: String,
    /// Its value as JSON text.
    pub value: Arc<str>,
}

impl Reported {
    /// How much memory it takes, in bytes; about.
    pub(crate) fn bytes(&self) -> usize {
        self.resource.len() + self.value.len()
    }
}

/// An event that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventToStore {
    /// Its type.
    pub type_code: i64,
    /// What tells it from others.
    pub key: EventKey,
    /// What it belongs to.
    pub correlation: Option<Uuid>,
    /// Its body, a JSON object.
    pub payload: Arc<str>,
    /// What its record tells.
    pub told: EventTold,
}

/// What the record of an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTold {
    /// The event.
    Event,
    /// That the device came or went, which a server has noted.
    Presence {
        /// Whether it is connected.
        online: bool,
        /// Why it went, or what its coming ended.
        reason: Reason,
    },
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// Its number, which is also that of its record.
    pub id: RecordNumber,
    /// The organisation that owns its device.
    pub org: OrgId,
    /// The registration of the device.
    pub device: DeviceKey,
    /// The device's number for applications.
    pub device_id: DeviceId,
    /// The device's serial number.
    pub sn: Sn,
    /// Its type.
    pub type_code: i64,
    /// What tells it from others.
    pub key: EventKey,
    /// When it was received.
    pub received_at: UnixMs,
    /// What it belongs to.
    pub correlation: Option<Uuid>,
    /// Its body, as it was sent.
    pub payload: Arc<str>,
}

/// The last body of a device that is of a gauge's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// The device.
    pub device_id: DeviceId,
    /// The type code.
    pub type_code: i64,
    /// When it was received.
    pub updated_at: UnixMs,
    /// The body, as it was sent.
    pub payload: Arc<str>,
}

/// Which gauges a caller wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GaugeFilter {
    /// Those of the device with this number.
    pub device_id: Option<DeviceId>,
    /// Those of this type.
    pub type_code: Option<i64>,
}

/// The types of which a caller wants to see events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventTypes {
    /// All that devices send, and none of what servers note of devices.
    #[default]
    OfDevices,
    /// All.
    Any,
    /// These, also of what servers note.
    These(Vec<i64>),
}

impl EventTypes {
    /// The types that are named; all of devices if none is (rest-api "Events").
    #[must_use]
    pub fn named(types: Vec<i64>) -> Self {
        if types.is_empty() { Self::OfDevices } else { Self::These(types) }
    }

    /// Checks how many are named.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::These(types) if types.len() > FILTER_TYPES_MAX => {
                Err(Error::invalid("events_include", "must be at most 64"))
            }
            Self::OfDevices | Self::Any | Self::These(_) => Ok(()),
        }
    }
}

/// Which events a caller wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those of the devices with these numbers; of all if there is none.
    pub device_ids: Vec<DeviceId>,
    /// Those of these types.
    pub include: EventTypes,
    /// Those that are not of these types.
    pub exclude: Vec<i64>,
    /// Those received at or after this instant.
    pub received_after: Option<UnixMs>,
    /// Those received before this instant.
    pub received_before: Option<UnixMs>,
}

/// How many type codes a filter may name.
/// Limit for each request: 422.
pub const FILTER_TYPES_MAX: usize = 64;
/// How many devices a filter may name.
/// Limit for each request: 422.
pub const FILTER_DEVICES_MAX: usize = 64;

impl EventFilter {
    /// Checks the filter against its ranges.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the parameter.
    pub fn validate(&self) -> Result<()> {
        if self.device_ids.len() > FILTER_DEVICES_MAX {
            return Err(Error::invalid("device_id", "must be at most 64"));
        }
        self.include.validate()?;
        if self.exclude.len() > FILTER_TYPES_MAX {
            return Err(Error::invalid("events_exclude", "must be at most 64"));
        }
        Ok(())
    }
}

/// Which part of a list of events is wanted, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventsFrom {
    /// A page by its number; its total is counted.
    Page(crate::port::PageRequest),
    /// Those before an event, or the newest; nothing is counted, so it costs
    /// the same at any depth.
    Before(Option<RecordNumber>, u32),
}

/// A part of a list of events, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    /// The events.
    pub items: Vec<DeviceEvent>,
    /// How many there are in all, if that was counted.
    pub total: Option<u64>,
    /// Whether it has fewer than asked for because they are too large
    /// ([`LIST_BYTES_MAX`](crate::port::LIST_BYTES_MAX)).
    pub is_cut: bool,
}

/// What became of an event that a device sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddedEvent {
    /// It was stored.
    Stored,
    /// It had been stored before.
    Duplicate,
    /// It is in the place of the gauge before it.
    Gauge,
}

impl NewEvent {
    /// How much memory what was sent takes, in bytes; about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let reported = self.reported.iter().map(|reported| reported.resource.len() + reported.value.len());
        self.payload.len() + reported.sum::<usize>()
    }

    /// Checks every field against its range.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(0..=EVENT_TYPE_CODE_MAX).contains(&self.type_code) {
            return Err(Error::invalid("event_type_code", "must be 0 to 2147483647"));
        }
        if self.payload.len() > EVENT_BODY_BYTES_MAX {
            return Err(Error::invalid("payload", "must be at most 65536 bytes"));
        }
        if self.reported.len() > crate::twin::RESOURCES_MAX as usize {
            return Err(Error::invalid("reported", "must be at most 256 resources"));
        }
        self.reported.iter().try_for_each(|one| crate::twin::validate(&one.resource, &one.value))
    }

    /// What it weighs: each value that it reports is a row of the twin, one of its history, and a record.
    #[must_use]
    pub fn weight(&self) -> Weight {
        let of_values: usize = self.reported.iter().map(|one| one.value.len()).sum();
        Weight::event(self.payload.len() + of_values, self.reported.len())
    }

    /// Whether the device is told that it was stored (device-events "eva").
    #[must_use]
    pub fn wants_answer(&self, is_gauge: bool) -> bool {
        self.type_code != 0 && self.dev_event_id != 0 && !is_gauge
    }
}
