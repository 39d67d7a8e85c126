//! Events: what devices told, newest first.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::client::{Client, Request};
use crate::error::Result;

const EVENTS: [&str; 3] = ["api", "v1", "device-events"];

/// An event of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its number.
    pub id: i64,
    /// The device's number.
    pub device_id: i64,
    /// The device's serial number.
    pub sn: String,
    /// Its type; -1 and -2 for the device's coming and going.
    pub event_type_code: i64,
    /// When it happened, in RFC 3339.
    pub timestamp: String,
    /// When it was received, in RFC 3339.
    pub received_at: String,
    /// Its number on the device; 0 if the device does not count.
    #[serde(default)]
    pub dev_event_id: u32,
    /// What it belongs to.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// Its body, as the device sent it.
    pub payload: Box<RawValue>,
}

/// Which events are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those of the device with this number.
    pub device_id: Option<i64>,
    /// Those of these types.
    pub include: Vec<i64>,
    /// Those that are not of these types.
    pub exclude: Vec<i64>,
    /// Those received at or after this instant: Unix seconds, or RFC 3339.
    pub received_after: Option<String>,
    /// Those received before this instant.
    pub received_before: Option<String>,
}

impl EventFilter {
    fn add_to<'a>(&self, request: Request<'a>) -> Request<'a> {
        let request = request
            .query_if("device_id", self.device_id)
            .query_if("received_after", self.received_after.as_deref())
            .query_if("received_before", self.received_before.as_deref());
        let request =
            self.include.iter().fold(request, |request, code| request.query("events_include", code));
        self.exclude.iter().fold(request, |request, code| request.query("events_exclude", code))
    }
}

/// Some events, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Events {
    /// The events.
    pub items: Vec<Event>,
    /// Where to go on, if there are more.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

impl Client {
    /// Events, newest first, from a cursor on: the newest without one.
    ///
    /// # Errors
    /// A refusal, or the transport's.
    pub async fn event_list(&self, filter: &EventFilter, cursor: Option<&str>, size: u32) -> Result<Events> {
        let request = self.request(Method::GET, &EVENTS).query("cursor", cursor.unwrap_or("newest"));
        filter.add_to(request.query("size", size)).send().await?.json()
    }
}
